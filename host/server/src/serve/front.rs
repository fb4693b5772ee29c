//! What takes connections, from before there is anything that could answer them.

use std::net::SocketAddr;
use std::sync::Arc;

use countersign_delivery::Routes;
use countersign_store::restored_at;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ServeError;
use super::before::Prepared;
use crate::api::{self, Api, ApiParts, Calls, Gate, Health, Ledger};
use crate::config::{Config, PublicUrl};
use crate::connections;
use crate::page::Pages;
use crate::providers::Configured;
use crate::users::Users;

/// The port, and who answers there.
pub(super) struct Front {
    pub(super) address: SocketAddr,
    pub(super) api: Arc<Api>,
    pub(super) calls: Calls,
    /// Accepts connections until `stop` turns true and those that there are have ended.
    pub(super) accepting: JoinHandle<()>,
    pub(super) stop: watch::Sender<bool>,
}

impl Front {
    /// Takes the port before the components are compiled: a port in use is told at once, and a load
    /// balancer sees `/readyz` say why. The templates go from `config` to the API.
    ///
    /// # Errors
    ///
    /// When the port cannot be had, or the store not be read.
    pub(super) async fn open(
        config: &mut Config,
        prepared: &Prepared,
        routes: &Routes,
    ) -> Result<Front, ServeError> {
        let listener = listen(config.listen).await?;
        let address = listener.local_addr().map_err(ServeError::System)?;
        config.http.connections_max = connections::possible(config.http.connections_max);
        let (api, calls) = Api::new(api_parts(config, prepared, routes).await?);
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(connections::serve(
            listener,
            api::App::new(api.clone()),
            config.http,
            prepared.metrics.connections.clone(),
            stopped,
        ));
        Ok(Front {
            address,
            api,
            calls,
            accepting,
            stop,
        })
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

/// What the API answers with before there are services.
async fn api_parts(
    config: &mut Config,
    prepared: &Prepared,
    routes: &Routes,
) -> Result<ApiParts, ServeError> {
    let (store, clock) = (&prepared.store, &prepared.clock);
    let keyring = &prepared.data.keyring;
    let restored = restored_at(store).await?;
    let users = Users::new(keyring, config.two_factor.clone(), restored);
    let gate = Gate::new(
        store.clone(),
        clock.clone(),
        users.clone(),
        prepared.mode,
        config.api_key.as_ref(),
        config.admin_token.as_ref(),
        config.metrics_token.as_ref(),
    );
    let ledger = Ledger::new(
        store.clone(),
        keyring.clone(),
        clock.clone(),
        config.idempotency,
    );
    let pages = Pages::new(
        store.clone(),
        keyring.clone(),
        clock.clone(),
        config.admin_token.as_ref(),
        config.public_url.as_ref().is_some_and(PublicUrl::is_secure),
        config
            .providers
            .iter()
            .map(|provider| provider.name.clone())
            .collect(),
    );
    Ok(ApiParts {
        http: config.http,
        gate,
        health: Health::of(Some(prepared.data.store.clone()), prepared.metrics.clone()),
        ledger,
        users,
        entropy: prepared.entropy.clone(),
        templates: std::mem::take(&mut config.templates),
        pages,
        providers: Configured::all(config),
        routes: routes.clone(),
    })
}
