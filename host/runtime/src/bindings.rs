//! Types and traits made from the WIT.

/// `countersign:service`.
#[allow(missing_docs, reason = "the documents are in the WIT")]
pub mod service {
    wasmtime::component::bindgen!({
        path: "../../wit/service",
        world: "countersign:service/otp-service",
        imports: {
            "countersign:service/phone": trappable,
            "countersign:service/settings": trappable,
            "countersign:service/log": trappable,
            "countersign:service/events": trappable,
            "countersign:service/queue": async | trappable,
            default: async | trappable,
        },
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// The otp interface as other components import it.
#[allow(missing_docs, reason = "the documents are in the WIT")]
pub mod otp_import {
    wasmtime::component::bindgen!({
        path: "../../wit/service",
        interfaces: "import countersign:service/otp@0.1.0;",
        imports: { default: async | trappable },
        with: {
            "countersign:service/types": crate::bindings::service::countersign::service::types,
            "countersign:service/otp-types": crate::bindings::service::countersign::service::otp_types,
        },
        require_store_data_send: true,
    });
}
