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

/// What two-factor exports, and what it imports beyond the others.
#[allow(missing_docs, reason = "the documents are in the WIT")]
pub mod two_factor {
    wasmtime::component::bindgen!({
        path: "../../wit/service",
        world: "countersign:service/two-factor-service",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "countersign:service/storage": crate::bindings::service::countersign::service::storage,
            "countersign:service/codes": crate::bindings::service::countersign::service::codes,
            "countersign:service/queue": crate::bindings::service::countersign::service::queue,
            "countersign:service/events": crate::bindings::service::countersign::service::events,
            "countersign:service/phone": crate::bindings::service::countersign::service::phone,
            "countersign:service/settings": crate::bindings::service::countersign::service::settings,
            "countersign:service/log": crate::bindings::service::countersign::service::log,
            "countersign:service/types": crate::bindings::service::countersign::service::types,
            "countersign:service/otp-types": crate::bindings::service::countersign::service::otp_types,
            "countersign:service/otp": crate::bindings::otp_import::countersign::service::otp,
        },
        require_store_data_send: true,
    });
}

/// What analytics exports.
#[allow(missing_docs, reason = "the documents are in the WIT")]
pub mod analytics {
    wasmtime::component::bindgen!({
        path: "../../wit/service",
        world: "countersign:service/analytics-service",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "countersign:service/storage": crate::bindings::service::countersign::service::storage,
            "countersign:service/codes": crate::bindings::service::countersign::service::codes,
            "countersign:service/queue": crate::bindings::service::countersign::service::queue,
            "countersign:service/events": crate::bindings::service::countersign::service::events,
            "countersign:service/phone": crate::bindings::service::countersign::service::phone,
            "countersign:service/settings": crate::bindings::service::countersign::service::settings,
            "countersign:service/log": crate::bindings::service::countersign::service::log,
            "countersign:service/types": crate::bindings::service::countersign::service::types,
        },
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
