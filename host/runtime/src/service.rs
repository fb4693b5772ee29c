//! Loaded service components and their instances.
//!
//! An instance serves one call at a time. After a call that counted it goes back to be used again;
//! after a trap, a cut-off call, or a run that went stale it is thrown away, and after a number of
//! calls it is replaced anyway, so that whatever a component leaks ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::Rng;
use wasmtime::component::{InstancePre, Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreLimits};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::service::countersign::service::types;
use crate::call::{Ended, Finished, Host, RescueSlot, Run, misuse, rescued};
use crate::call_figures::ServiceFigures;
use crate::component::{Compiled, Compiler, LoadError, reason};
use crate::generation::Versioned;
use crate::meter::{self, Meter};
use crate::places::Places;
use crate::secrets::Secrets;
use crate::version::{Fate, Sha256, Tally};
use crate::{capabilities, wasi};

/// The analytics component's typed exports.
pub use crate::bindings::analytics::AnalyticsService as AnalyticsComponent;
use crate::bindings::analytics::AnalyticsServicePre;
/// The otp component's typed exports.
pub use crate::bindings::service::OtpService as OtpComponent;
use crate::bindings::service::OtpServicePre;
/// The two-factor component's typed exports.
pub use crate::bindings::two_factor::TwoFactorService as TwoFactorComponent;
use crate::bindings::two_factor::TwoFactorServicePre;

/// Which component it is, and what it has said of itself.
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) sha256: Sha256,
    pub(crate) manifest: types::Manifest,
    pub(crate) tally: Tally,
}

/// The data of one instance's store: opaque to whoever calls.
pub struct Call {
    pub(crate) identity: Arc<Identity>,
    pub(crate) run: Option<Box<Run>>,
    /// What the instance's own time is charged to outside a call: its start, and `describe`.
    start: Arc<Meter>,
    world: Arc<wasi::World>,
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for Call {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Call {
    /// The secrets of the call that this instance is in.
    pub(crate) fn secrets(&self) -> Secrets {
        let run = self.run.as_ref();
        run.map(|run| run.secrets.clone()).unwrap_or_default()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // A call that was cut off in a nested call: its tries are still to be counted.
        if let Some(run) = self.run.take()
            && let Some(rescue) = run.rescue.upgrade()
        {
            *rescue.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
        }
    }
}

/// A world of services: what its components export, typed. Implemented for what `bindgen!` makes.
#[async_trait]
pub trait World: Send + Sync + Sized + 'static {
    /// A component of this world, linked and type-checked.
    type Pre: Clone + Send + Sync + 'static;
    /// The world's name, for messages.
    const NAME: &'static str;

    /// Offers what this world has beyond what every service has ([`link_otp`], [`link_two_factor`]).
    ///
    /// # Errors
    ///
    /// When something is offered twice.
    fn link(linker: &mut Linker<Call>) -> wasmtime::Result<()>;

    /// Checks the exports of a linked component.
    ///
    /// # Errors
    ///
    /// When one is missing or has another type.
    fn pre(pre: InstancePre<Call>) -> wasmtime::Result<Self::Pre>;

    /// Makes an instance.
    ///
    /// # Errors
    ///
    /// When the engine has no room, or the component's own start fails.
    async fn instantiate(pre: &Self::Pre, store: &mut Store<Call>) -> wasmtime::Result<Self>;

    /// Asks the component what it is.
    ///
    /// # Errors
    ///
    /// When it traps.
    async fn describe(&self, store: &mut Store<Call>) -> wasmtime::Result<types::Manifest>;
}

#[async_trait]
impl World for OtpComponent {
    type Pre = OtpServicePre<Call>;
    const NAME: &'static str = "countersign:service/otp-service@0.1.0";

    fn link(_: &mut Linker<Call>) -> wasmtime::Result<()> {
        Ok(())
    }

    fn pre(pre: InstancePre<Call>) -> wasmtime::Result<Self::Pre> {
        OtpServicePre::new(pre)
    }

    async fn instantiate(pre: &Self::Pre, store: &mut Store<Call>) -> wasmtime::Result<Self> {
        pre.instantiate_async(store).await
    }

    async fn describe(&self, store: &mut Store<Call>) -> wasmtime::Result<types::Manifest> {
        self.call_describe(store).await
    }
}

#[async_trait]
impl World for TwoFactorComponent {
    type Pre = TwoFactorServicePre<Call>;
    const NAME: &'static str = "countersign:service/two-factor-service@0.1.0";

    fn link(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
        link_otp(linker)?;
        link_two_factor(linker)
    }

    fn pre(pre: InstancePre<Call>) -> wasmtime::Result<Self::Pre> {
        TwoFactorServicePre::new(pre)
    }

    async fn instantiate(pre: &Self::Pre, store: &mut Store<Call>) -> wasmtime::Result<Self> {
        pre.instantiate_async(store).await
    }

    async fn describe(&self, store: &mut Store<Call>) -> wasmtime::Result<types::Manifest> {
        self.call_describe(store).await
    }
}

#[async_trait]
impl World for AnalyticsComponent {
    type Pre = AnalyticsServicePre<Call>;
    const NAME: &'static str = "countersign:service/analytics-service@0.1.0";

    fn link(_: &mut Linker<Call>) -> wasmtime::Result<()> {
        Ok(())
    }

    fn pre(pre: InstancePre<Call>) -> wasmtime::Result<Self::Pre> {
        AnalyticsServicePre::new(pre)
    }

    async fn instantiate(pre: &Self::Pre, store: &mut Store<Call>) -> wasmtime::Result<Self> {
        pre.instantiate_async(store).await
    }

    async fn describe(&self, store: &mut Store<Call>) -> wasmtime::Result<types::Manifest> {
        self.call_describe(store).await
    }
}

/// Offers authenticator apps, backup codes and the audit trail to the components of a world.
///
/// # Errors
///
/// When they are offered twice.
pub fn link_two_factor(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    capabilities::link_two_factor(linker)
}

/// Offers the otp component to the components of a world.
///
/// # Errors
///
/// When it is offered twice.
pub fn link_otp(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    capabilities::link_otp(linker)
}

/// A loaded service component.
pub struct Service<W: World> {
    engine: Engine,
    host: Arc<Host>,
    pre: W::Pre,
    identity: Arc<Identity>,
    figures: Arc<ServiceFigures>,
    places: Places,
    /// `None` once it has been replaced.
    idle: Mutex<Option<Vec<Instance<W>>>>,
}

impl<W: World> Versioned for Service<W> {
    fn sha256(&self) -> Sha256 {
        self.identity.sha256
    }

    fn tally(&self) -> &Tally {
        &self.identity.tally
    }

    fn retire(&self) {
        let idle = self.idle.lock();
        let instances = idle.unwrap_or_else(PoisonError::into_inner).take();
        // Giving back so many memories takes a while, and a call may be waiting for this one.
        crate::aside::drop_there(instances);
    }
}

/// One instance, and how many calls it has served.
pub(crate) struct Instance<W> {
    store: Store<Call>,
    exports: W,
    calls: u32,
}

impl<W: World> Service<W> {
    /// Compiles `bytes`, checks that they fit the world, and asks the component what it is.
    pub(crate) async fn load(
        compiler: &Compiler,
        host: &Arc<Host>,
        name: &str,
        bytes: &[u8],
    ) -> Result<Arc<Service<W>>, LoadError> {
        let compiled = compiler.compile(name, bytes)?;
        Service::link(&compiler.engine, host, name, &compiled)?
            .ask()
            .await
    }

    /// Checks that a component fits the world. It has not said yet what it is.
    pub(crate) fn link(
        engine: &Engine,
        host: &Arc<Host>,
        name: &str,
        compiled: &Compiled,
    ) -> Result<Service<W>, LoadError> {
        let misfit = |error: wasmtime::Error| LoadError::DoesNotFit {
            name: name.to_owned(),
            world: W::NAME,
            reason: reason(&error),
        };
        let mut linker = Linker::new(engine);
        capabilities::link(&mut linker)
            .and_then(|()| wasi::link(&mut linker))
            .and_then(|()| W::link(&mut linker))
            .map_err(misfit)?;
        let pre = linker
            .instantiate_pre(&compiled.component)
            .and_then(W::pre)
            .map_err(misfit)?;
        let unknown = Identity {
            name: name.to_owned(),
            sha256: compiled.sha256,
            tally: Tally::default(),
            manifest: types::Manifest {
                name: name.to_owned(),
                version: String::new(),
                state_writes: 0,
                state_reads: Vec::new(),
                read_only: Vec::new(),
            },
        };
        Ok(Service {
            engine: engine.clone(),
            host: host.clone(),
            pre,
            identity: Arc::new(unknown),
            figures: host.figures.of(name),
            places: host.places.of(name),
            idle: Mutex::new(Some(Vec::new())),
        })
    }

    /// Asks the component what it is.
    pub(crate) async fn ask(mut self) -> Result<Arc<Service<W>>, LoadError> {
        let name = self.identity.name.clone();
        let manifest = match self.describe().await {
            Ok(manifest) => manifest,
            Err(reason) => return Err(LoadError::Describe { name, reason }),
        };
        self.identity = Arc::new(Identity {
            name,
            sha256: self.identity.sha256,
            tally: Tally::default(),
            manifest,
        });
        Ok(Arc::new(self))
    }

    /// The same component in another process: nothing but the compiled code is shared.
    pub(crate) fn again(&self, host: &Arc<Host>) -> Arc<Service<W>> {
        Arc::new(Service {
            engine: self.engine.clone(),
            host: host.clone(),
            pre: self.pre.clone(),
            identity: self.identity.clone(),
            figures: host.figures.of(self.name()),
            places: host.places.of(self.name()),
            idle: Mutex::new(Some(Vec::new())),
        })
    }

    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub(crate) fn name(&self) -> &str {
        &self.identity.name
    }

    pub(crate) fn figures(&self) -> &ServiceFigures {
        &self.figures
    }

    /// Where its calls run, those of its other versions included.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    pub(crate) fn read_only(&self, function: &str) -> bool {
        self.identity
            .manifest
            .read_only
            .iter()
            .any(|name| name == function)
    }

    async fn describe(&self) -> Result<types::Manifest, String> {
        let asked = async {
            let mut instance = self.instantiate().await?;
            let start = instance.store.data().start.clone();
            start
                .run(instance.exports.describe(&mut instance.store))
                .await
        };
        let manifest = match tokio::time::timeout(self.host.limits.service_wall, asked).await {
            Ok(Ok(manifest)) => manifest,
            Ok(Err(error)) => return Err(reason(&error)),
            Err(_) => return Err("it took too long".to_owned()),
        };
        if manifest.state_writes == 0 || !manifest.state_reads.contains(&manifest.state_writes) {
            return Err(
                "`state-reads` must contain `state-writes`, which is at least 1".to_owned(),
            );
        }
        let named = |text: &String| (1..=64).contains(&text.len());
        let names = [&manifest.name, &manifest.version]
            .into_iter()
            .chain(&manifest.read_only);
        if manifest.state_reads.len() > 16 || manifest.read_only.len() > 64 || !{ names }.all(named)
        {
            return Err("its manifest is out of bounds".to_owned());
        }
        Ok(manifest)
    }

    async fn instantiate(&self) -> wasmtime::Result<Instance<W>> {
        let limits = &self.host.limits;
        let world = wasi::World::new(limits.log_line_bytes * limits.log_lines);
        let call = Call {
            identity: self.identity.clone(),
            run: None,
            start: Meter::giving_way(limits.service_time, &self.host.turns),
            wasi: wasi::context(&world, &self.host.clock, &*self.host.entropy),
            world,
            table: wasi::table(limits.handles),
            limits: limits.of_a_store(),
        };
        let mut store = Store::new(&self.engine, call);
        store.set_hostcall_fuel(limits.hostcall_bytes);
        store.limiter(|call| &mut call.limits);
        meter::watch(&mut store, |call: &Call| {
            call.run.as_ref().map_or(&call.start, |run| &run.meter)
        });
        let start = store.data().start.clone();
        let exports = start.run(W::instantiate(&self.pre, &mut store)).await?;
        Ok(Instance {
            store,
            exports,
            calls: 0,
        })
    }

    fn idle(&self) -> Option<Instance<W>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.as_mut()?.pop()
    }

    /// Keeps an instance for the next call.
    pub(crate) fn keep(&self, mut instance: Instance<W>) {
        instance.calls += 1;
        if instance.calls >= self.host.limits.instance_calls {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = idle.as_mut()
            && idle.len() < self.host.limits.idle_instances
        {
            idle.push(instance);
        }
    }

    async fn instance(&self) -> wasmtime::Result<Instance<W>> {
        match self.idle() {
            Some(instance) => Ok(instance),
            None => self.instantiate().await,
        }
    }

    /// Makes one run: `function` calls an export.
    pub(crate) async fn run<R>(
        &self,
        mut run: Box<Run>,
        wall: Duration,
        function: impl for<'a> FnOnce(&'a W, &'a mut Store<Call>, types::Context) -> Export<'a, R>,
    ) -> Finished<R, Instance<W>> {
        let deadline = tokio::time::Instant::now() + wall;
        // A component's own start code runs here, so this is bounded as well.
        let instance = match tokio::time::timeout_at(deadline, self.instance()).await {
            Ok(instance) => instance,
            Err(_) => Err(wasmtime::Error::msg("its start took too long")),
        };
        let mut instance = match instance {
            Ok(instance) => instance,
            Err(error) => {
                return Finished {
                    ended: Ended::NoInstance(error),
                    run,
                    instance: None,
                };
            }
        };
        let meter = run.meter.clone();
        let rescue: Arc<RescueSlot> = Arc::default();
        run.rescue = Arc::downgrade(&rescue);
        let context = enter(&mut instance.store, run);
        let call = function(&instance.exports, &mut instance.store, context);
        let ended = match tokio::time::timeout_at(deadline, meter.run(call)).await {
            Ok(Ok(Ok(answer))) => Ended::Ok(answer),
            Ok(Ok(Err(text))) => Ended::Err(text),
            Ok(Err(error)) => Ended::Trap(error),
            Err(_) => Ended::WallClock,
        };
        let counted = matches!(ended, Ended::Ok(_) | Ended::Err(_));
        let run = match leave(&mut instance.store) {
            Some(run) => run,
            // It was in a nested call whose future has been dropped.
            None => match rescued(&rescue) {
                Some(run) => run,
                None => unreachable!("a run is in an instance or in its rescue slot"),
            },
        };
        Finished {
            ended,
            run,
            instance: counted.then_some(instance),
        }
    }
}

/// A typed call of an export. Boxed, since the compiler cannot prove an `AsyncFn`'s future to be `Send`
/// for every lifetime, and a call must be able to run in a task of its own.
pub type Export<'a, R> =
    std::pin::Pin<Box<dyn Future<Output = wasmtime::Result<Result<R, String>>> + Send + 'a>>;

/// Lets `run` enter an instance; returns what the guest is told.
fn enter(store: &mut Store<Call>, mut run: Box<Run>) -> types::Context {
    // Each entry draws its own numbers, the same ones in a re-run that does the same.
    let mut seed = [0; 32];
    run.random.fill_bytes(&mut seed);
    let context = run.guest_context();
    let call = store.data_mut();
    call.world.set(Some(run.transaction.instant()), seed);
    call.run = Some(run);
    store.set_epoch_deadline(1);
    context
}

/// Takes the run out of an instance again.
fn leave(store: &mut Store<Call>) -> Option<Box<Run>> {
    let call = store.data_mut();
    let mut run = call.run.take()?;
    for line in call.world.output().lines() {
        run.say(tracing::Level::INFO, line);
    }
    Some(run)
}

/// Calls `service` from inside `outer`'s call: in the same transaction, in its own key space.
pub(crate) async fn nested<W: World, R>(
    outer: &mut Call,
    service: &Arc<Service<W>>,
    function: impl AsyncFnOnce(
        &W,
        &mut Store<Call>,
        types::Context,
    ) -> wasmtime::Result<Result<R, String>>,
) -> wasmtime::Result<Result<R, String>> {
    let name = service.name();
    match &outer.run {
        None => return misuse("an import was used outside a call"),
        Some(run) if run.stack.iter().any(|component| component == name) => {
            return misuse(format!("`{name}` is already in this call"));
        }
        Some(run) if run.read_only => {
            return misuse("a function that is declared read-only called another component");
        }
        Some(_) => {}
    }
    let mut instance = match service.instance().await {
        Ok(instance) => instance,
        Err(error) => {
            if let Some(run) = &mut outer.run {
                run.busy = true;
            }
            return Err(error);
        }
    };
    let Some(mut run) = outer.run.take() else {
        return misuse("an import was used outside a call");
    };
    let savepoint = run.savepoint();
    run.stack.push(name.to_owned());
    let context = enter(&mut instance.store, run);
    let result = function(&instance.exports, &mut instance.store, context).await;
    let Some(mut run) = leave(&mut instance.store) else {
        return misuse("the run was lost in a nested call");
    };
    match &result {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => run.roll_back(savepoint),
        Err(_) => {
            run.blame.get_or_insert_with(|| name.to_owned());
        }
    }
    run.stack.pop();
    if result.is_ok() {
        // Kept only when the run counts: an instance that saw what is no longer true is not used again.
        let service = service.clone();
        run.finished.push(Box::new(move || {
            service.identity.tally.count(Fate::Well);
            service.keep(instance);
        }));
    }
    outer.run = Some(run);
    result
}
