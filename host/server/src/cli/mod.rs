//! The command line. What it prints for people and as JSON goes to standard output, errors and logs
//! to standard error, with `--json` errors too as JSON. It ends with 0 when all is well, 1 on failure, 2
//! when it was not understood.

mod analytics;
mod ask;
mod backup;
mod component;
mod doctor;
mod failure;
mod import;
mod keyring;
mod keys;
mod messages;
mod provider;
mod queue;
mod stops;
mod template;
mod users;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use failure::Failure;

use crate::components::StepShown;
use crate::config::{Config, Environment, Flags, Folders, Merged};
use crate::control::{self, Answer, ControlError, Request};
use crate::serve::serve;

/// What has no flag and is needed all the same; the README has every setting with its variable.
const VARIABLES: &str = "\
Variables:
  COUNTERSIGN_API_KEY                       An API key, 32 characters or more
  COUNTERSIGN_ADMIN_TOKEN                   Opens /admin, /api/analytics and /dashboard, which answer 403 without it
  COUNTERSIGN_METRICS_TOKEN                 The bearer token of /metrics; the administrator's opens it too
  COUNTERSIGN_KEYS                          The folder of the secret keys [default: keys in the data folder]
  COUNTERSIGN_PUBLIC_URL                    Where providers reach this server
  TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN,
  TWILIO_PHONE_NUMBER                       Switch Twilio on
Every setting of the configuration file has one: `otp.digits` is COUNTERSIGN_OTP_DIGITS.

Exit status:
  0  done; of serve: stopped as it was told to
  1  failed; of doctor: something must be put right
  2  the command line was not understood";

/// Self-hosted one-time codes by SMS. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, args_conflicts_with_subcommands = true, after_help = VARIABLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the HTTP API; also what no command at all does.
    #[command(after_help = VARIABLES)]
    Serve(ServeFlags),
    /// Make, list and revoke API keys.
    Keys(keys::Keys),
    /// Find messages, look at one, and at the whole number that one went to.
    Messages(messages::Messages),
    /// Look at the texts of messages: their languages, how many SMS they are, and what they cost.
    Template(template::Template),
    /// Look at the queue, and replay messages that no provider could take.
    Queue(queue::Queue),
    /// Look at what a number has answered STOP to, and take it back.
    Stops(stops::Stops),
    /// List, inspect, install, take back and export the components that decide and speak.
    Component(component::Component),
    /// Write a provider component of your own, and test it.
    Provider(provider::Provider),
    /// Look at a user's second factors, and help a user who cannot log in.
    Users(users::Users),
    /// Count anew what became of messages.
    Analytics(analytics::Analytics),
    /// Move users in from another system.
    Import(import::Import),
    /// Rotate the host's secret keys.
    Keyring(keyring::KeyringCommand),
    /// Look for what is wrong with the configuration, the data, the keys and the machine.
    Doctor(doctor::Doctor),
    /// Write everything that is kept to one file, while the server runs or not. The host's secret keys
    /// are not in it.
    Backup(backup::Backup),
    /// Put a backup into a data folder without a store.
    Restore(backup::Restore),
}

/// A flag wins over its variable, the variable over the file.
#[derive(Debug, Args)]
struct ServeFlags {
    #[command(flatten)]
    place: Place,
    /// Address and port; port 0 picks a free one [env: COUNTERSIGN_LISTEN] [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Which logs to write, as a tracing filter [env: COUNTERSIGN_LOG] [default: info].
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Serve without any API key, whatever the address and the provider [env: COUNTERSIGN_OPEN].
    #[arg(long)]
    open: bool,
    /// A folder whose components are installed as they come, each under its file's name [env:
    /// COUNTERSIGN_WATCH].
    #[arg(long, value_name = "DIR")]
    watch: Option<PathBuf>,
}

/// Where the configuration and the data are; behind a command's subcommands, too.
#[derive(Debug, Args)]
struct Place {
    /// The configuration file [env: COUNTERSIGN_CONFIG].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The data folder [env: COUNTERSIGN_DATA] [default: data].
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
}

impl From<Place> for Flags {
    fn from(place: Place) -> Flags {
        Flags {
            config: place.config,
            data: place.data,
            ..Flags::default()
        }
    }
}

impl From<ServeFlags> for Flags {
    fn from(flags: ServeFlags) -> Flags {
        Flags {
            listen: flags.listen,
            log: flags.log,
            open: flags.open,
            watch: flags.watch,
            ..flags.place.into()
        }
    }
}

/// A server that is just starting holds the store and has no socket yet.
const TRIES: u32 = 25;
const TRY_PAUSE: Duration = Duration::from_millis(200);

/// Who holds the store.
enum Held<T> {
    /// A server, and its answer.
    ByServer(Answer),
    /// This command.
    Here(T),
}

/// Asks the server that holds the data, and opens it with `open` where none answers. While `in_use`
/// says of `open`'s error that somebody holds it, that may be a server that is starting.
fn reach<T, E: From<ControlError>>(
    folders: &Folders,
    request: &Request,
    open: impl Fn() -> Result<T, E>,
    in_use: impl Fn(&E) -> bool,
) -> Result<Held<T>, E> {
    reach_and_hear(folders, request, &mut |_| {}, open, in_use)
}

/// As [`reach`]; `heard` is told of the steps of what takes long.
fn reach_and_hear<T, E: From<ControlError>>(
    folders: &Folders,
    request: &Request,
    heard: &mut dyn FnMut(StepShown),
    open: impl Fn() -> Result<T, E>,
    in_use: impl Fn(&E) -> bool,
) -> Result<Held<T>, E> {
    let mut tries = 0;
    loop {
        if let Some(answer) = control::ask_and_hear(&folders.data, request, heard)? {
            return Ok(Held::ByServer(answer));
        }
        match open() {
            Ok(opened) => return Ok(Held::Here(opened)),
            Err(error) if in_use(&error) && tries < TRIES => {
                tries += 1;
                std::thread::sleep(TRY_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing was understood, so what was asked for is looked for by its name.
            let as_json = std::env::args_os().any(|arg| arg == "--json");
            let status = failure::report_usage(&error, as_json);
            return ExitCode::from(u8::try_from(status).unwrap_or(2));
        }
    };
    let environment = Environment::of_process();
    let colour = environment.colour();
    let as_json = cli.command.as_ref().is_some_and(Command::wants_json);
    let outcome = match cli.command {
        None => run_serve(cli.serve.into(), environment),
        Some(Command::Serve(flags)) => run_serve(flags.into(), environment),
        Some(Command::Keys(command)) => command.run(&environment),
        Some(Command::Messages(command)) => command.run(&environment),
        Some(Command::Template(command)) => command.run(&environment),
        Some(Command::Queue(command)) => command.run(&environment),
        Some(Command::Stops(command)) => command.run(&environment),
        Some(Command::Component(command)) => command.run(&environment),
        Some(Command::Provider(command)) => command.run(),
        Some(Command::Users(command)) => command.run(&environment),
        Some(Command::Analytics(command)) => command.run(&environment),
        Some(Command::Import(command)) => command.run(&environment),
        Some(Command::Keyring(command)) => command.run(&environment),
        Some(Command::Doctor(command)) => command.run(&environment),
        Some(Command::Backup(command)) => command.run(&environment),
        Some(Command::Restore(command)) => command.run(&environment),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            failure::report(&*error, as_json, colour);
            ExitCode::FAILURE
        }
    }
}

impl Command {
    /// Whether a program reads what it says.
    fn wants_json(&self) -> bool {
        match self {
            Command::Serve(_) => false,
            Command::Keys(command) => command.json,
            Command::Messages(command) => command.json,
            Command::Template(command) => command.json,
            Command::Queue(command) => command.json,
            Command::Stops(command) => command.json,
            Command::Component(command) => command.json,
            Command::Provider(command) => command.json,
            Command::Keyring(command) => command.wants_json(),
            Command::Doctor(command) => command.json,
            Command::Backup(command) => command.json,
            Command::Restore(command) => command.json,
            Command::Users(command) => command.json,
            Command::Analytics(command) => command.json,
            Command::Import(command) => command.json,
        }
    }
}

fn run_serve(flags: Flags, environment: Environment) -> Result<(), Failure> {
    let merged = Merged::load(&flags, &environment)?;
    let config = Config::new(&merged, &environment)?;
    // It holds secrets that nobody needs any more.
    drop((merged, environment));
    Ok(serve(config)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split(' ')).map_err(|error| error.kind())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_names_the_variables() {
        for line in ["countersign --help", "countersign serve --help"] {
            let Err(help) = Cli::try_parse_from(line.split(' ')) else {
                panic!("no help: {line}");
            };
            let help = help.to_string();
            for name in [
                "COUNTERSIGN_LISTEN",
                "COUNTERSIGN_API_KEY",
                "TWILIO_AUTH_TOKEN",
            ] {
                assert!(help.contains(name), "{name} in {line}");
            }
        }
        let Err(help) = Cli::try_parse_from(["countersign", "keys", "list", "--help"]) else {
            panic!("no help");
        };
        assert!(help.to_string().contains("COUNTERSIGN_DATA"));
    }

    #[test]
    fn no_command_is_serve_with_the_same_flags() {
        let bare = parse("countersign --listen 127.0.0.1:0 --data d --open").expect("good");
        assert!(bare.command.is_none());
        let flags = Flags::from(bare.serve);
        let named = parse("countersign serve --listen 127.0.0.1:0 --data d --open").expect("good");
        let Some(Command::Serve(named)) = named.command else {
            panic!("not serve");
        };
        assert_eq!(format!("{flags:?}"), format!("{:?}", Flags::from(named)));
        assert!(flags.open && flags.listen.as_deref() == Some("127.0.0.1:0"));
    }

    #[test]
    fn what_is_not_understood_is_a_usage_error() {
        for line in [
            "countersign nonsense",
            "countersign --nonsense",
            "countersign keys",
            "countersign keys revoke",
            "countersign --data d keys list",
            "countersign queue replay",
            "countersign queue replay x --all",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_queue_is_looked_at_and_replayed() {
        for line in [
            "countersign queue",
            "countersign queue --json",
            "countersign queue status --data d",
            "countersign queue dead --json",
            "countersign queue dead x --config c.toml",
            "countersign queue replay x",
            "countersign queue replay --all --json",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn stops_are_listed_and_cleared() {
        for good in [
            "countersign stops list +12025550123",
            "countersign stops list - --json",
            "countersign stops clear +12025550123 --provider twilio --data d",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "countersign stops",
            "countersign stops list",
            "countersign stops clear --provider twilio",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_are_found_and_shown() {
        for line in [
            "countersign messages find",
            "countersign messages find --phone +12025550123 --json --data d",
            "countersign messages find --phone - --start 2026-01-31T12:00:00Z --limit 5",
            "countersign messages find --end 2026-01-31T12:00:00Z --cursor x",
            "countersign messages show x --config c.toml",
            "countersign messages reveal x --json",
            "countersign messages trail",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "countersign messages",
            "countersign messages show",
            "countersign messages reveal",
            "countersign messages find x",
            "countersign messages find --limit x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn components_take_their_flags_after_the_command() {
        for line in [
            "countersign component list --json",
            "countersign component inspect otp.wasm",
            "countersign component install otp otp.wasm --canary 10 --data d",
            "countersign component rollback otp --config c.toml",
            "countersign component export otp otp.wasm",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "countersign component",
            "countersign component install otp",
            "countersign component install otp otp.wasm --canary 0",
            "countersign component install otp otp.wasm --canary 100",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn providers_are_begun_and_tested() {
        for line in [
            "countersign provider new acme-sms --lang rust",
            "countersign provider new acme-sms --lang rust --into d --json",
            "countersign provider test a.wasm",
            "countersign provider test a.wasm --conformance c.toml --set from=x=y --json",
            "countersign provider test --builtin twilio",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "countersign provider",
            "countersign provider new acme-sms",
            "countersign provider new Acme --lang rust",
            "countersign provider new acme-sms --lang cobol",
            "countersign provider test",
            "countersign provider test a.wasm --builtin twilio",
            "countersign provider test a.wasm --set from",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn users_and_imports_take_their_flags_after_the_command() {
        for line in [
            "countersign users show user-1 --json --data d",
            "countersign users unlock user-1 --config c.toml",
            "countersign users --json reset user-1",
            "countersign users delete user-1",
            "countersign import users.jsonl --json --data d",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "countersign users show",
            "countersign import",
            "countersign users",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn keys_take_their_flags_after_the_command() {
        for line in [
            "countersign keys create --name shop --json --data d",
            "countersign keys list --json",
            "countersign keys revoke AbCdEf1234 --config c.toml",
            "countersign keys --data d list",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }
}
