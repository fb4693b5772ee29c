//! The scripted service, for calls that fail after they have called otp.

use async_trait::async_trait;
use countersign_runtime::world::{
    Call, World, link_otp, link_two_factor, otp_import, service, two_factor,
};
use wasmtime::component::{InstancePre, Linker};

mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit/service", "../tests/hostile/wit"],
        world: "countersign:probe/probe-service",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "countersign:service/storage": super::service::countersign::service::storage,
            "countersign:service/codes": super::service::countersign::service::codes,
            "countersign:service/queue": super::service::countersign::service::queue,
            "countersign:service/events": super::service::countersign::service::events,
            "countersign:service/phone": super::service::countersign::service::phone,
            "countersign:service/settings": super::service::countersign::service::settings,
            "countersign:service/log": super::service::countersign::service::log,
            "countersign:service/types": super::service::countersign::service::types,
            "countersign:service/otp-types": super::service::countersign::service::otp_types,
            "countersign:service/otp": super::otp_import::countersign::service::otp,
            "countersign:service/totp": super::two_factor::countersign::service::totp,
            "countersign:service/backup": super::two_factor::countersign::service::backup,
            "countersign:service/audit": super::two_factor::countersign::service::audit,
        },
        require_store_data_send: true,
    });
}

pub(crate) use bindings::ProbeService as Probe;

#[async_trait]
impl World for Probe {
    type Pre = bindings::ProbeServicePre<Call>;
    const NAME: &'static str = "countersign:probe/probe-service";

    fn link(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
        link_otp(linker)?;
        link_two_factor(linker)
    }

    fn pre(pre: InstancePre<Call>) -> wasmtime::Result<Self::Pre> {
        bindings::ProbeServicePre::new(pre)
    }

    async fn instantiate(
        pre: &Self::Pre,
        store: &mut wasmtime::Store<Call>,
    ) -> wasmtime::Result<Self> {
        pre.instantiate_async(store).await
    }

    async fn describe(
        &self,
        store: &mut wasmtime::Store<Call>,
    ) -> wasmtime::Result<service::countersign::service::types::Manifest> {
        self.call_describe(store).await
    }
}
