//! The contract in Rust, generated from `wit/`.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated; what each item means stands in wit/"
)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "waypost:policy/host-view",
    imports: { default: async | trappable },
    exports: { default: async },
});
