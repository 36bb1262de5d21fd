//! What wit-bindgen makes of the contract in `wit/`.
//!
//! The imports are generated once. Each hook is generated as a world of its own that exports this one
//! interface: the description of a world is linked into a component only where its export macro is
//! used, so a component exports the hooks its author named and no other. Imports that nobody
//! calls are dropped when the component is made.
#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "generated code; its words are those of wit/"
)]

/// The interfaces of the host, and the types that all hooks share.
pub mod imports {
    wit_bindgen::generate!({
        path: "wit",
        world: "waypost:policy/imports",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
    });
}

/// One hook as a world of its own, and a function that exists for who answers it.
macro_rules! hook {
    ($name:ident, $interface:ident, $world:literal $(, $($option:tt)+)?) => {
        #[doc(hidden)]
        pub mod $name {
            wit_bindgen::generate!({
                inline: $world,
                path: "wit",
                pub_export_macro: true,
                $($($option)+)?
            });

            pub fn answers<G: self::exports::waypost::policy::$interface::Guest>() {}
        }
    };
}

/// As [`hook!`], for interfaces that use the shared types.
macro_rules! typed_hook {
    ($name:ident, $interface:ident, $world:literal) => {
        hook!($name, $interface, $world, with: {
            "waypost:policy/types@0.1.0": crate::bindings::imports::waypost::policy::types,
        });
    };
}

hook!(
    lifecycle,
    lifecycle,
    "package waypost:sdk; world lifecycle { export waypost:policy/lifecycle@0.1.0; }"
);
hook!(
    self_test,
    self_test,
    "package waypost:sdk; world self-test { export waypost:policy/self-test@0.1.0; }"
);
typed_hook!(
    connect,
    connect_hook,
    "package waypost:sdk; world connect { export waypost:policy/connect-hook@0.1.0; }"
);
typed_hook!(
    helo,
    helo_hook,
    "package waypost:sdk; world helo { export waypost:policy/helo-hook@0.1.0; }"
);
typed_hook!(
    auth,
    auth_hook,
    "package waypost:sdk; world auth { export waypost:policy/auth-hook@0.1.0; }"
);
typed_hook!(
    sender,
    sender_hook,
    "package waypost:sdk; world sender { export waypost:policy/sender-hook@0.1.0; }"
);
typed_hook!(
    recipients,
    recipient_hook,
    "package waypost:sdk; world recipients { export waypost:policy/recipient-hook@0.1.0; }"
);
typed_hook!(
    message,
    message_hook,
    "package waypost:sdk; world message { export waypost:policy/message-hook@0.1.0; }"
);
typed_hook!(
    route,
    route_hook,
    "package waypost:sdk; world route { export waypost:policy/route-hook@0.1.0; }"
);
typed_hook!(
    prepare,
    prepare_hook,
    "package waypost:sdk; world prepare { export waypost:policy/prepare-hook@0.1.0; }"
);
typed_hook!(
    attempt,
    attempt_hook,
    "package waypost:sdk; world attempt { export waypost:policy/attempt-hook@0.1.0; }"
);
typed_hook!(
    events,
    event_hook,
    "package waypost:sdk; world events { export waypost:policy/event-hook@0.1.0; }"
);
typed_hook!(
    timer,
    timer_hook,
    "package waypost:sdk; world timer { export waypost:policy/timer-hook@0.1.0; }"
);
