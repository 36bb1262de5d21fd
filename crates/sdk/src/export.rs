//! From the traits to the functions of a component.

use crate::bindings::lifecycle::exports::waypost::policy::lifecycle;
use crate::bindings::self_test::exports::waypost::policy::self_test;
use crate::config;
use crate::hooks::{
    Asked, OnAttempt, OnAuth, OnConnect, OnEvents, OnHelo, OnMessage, OnPrepare, OnRecipients,
    OnRoute, OnSender, OnTimer, SelfTest,
};
use crate::plugin::{Decision, Plugin};
use crate::types::{
    Attempt, AttemptOutcome, AuthDecision, CallInfo, Credentials, Delivery, Envelope, Event,
    MessageInfo, MessageOutcome, PrepareOutcome, Queued, Recipient, RecipientOutcome, RouteGroup,
    Session, SessionOutcome,
};

/// Exports a plugin: its type, then the hooks it answers.
///
/// The hooks are `self_test`, `connect`, `helo`, `auth`, `sender`, `recipients`, `message`, `route`,
/// `prepare`, `attempt`, `events` and `timer`; the type must implement the trait of each. Name and
/// version are those of the crate that calls the macro.
#[macro_export]
macro_rules! export {
    ($plugin:ty : $($hook:ident),+ $(,)?) => {
        #[allow(unsafe_code, reason = "functions that the host calls by name")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::std::cell::OnceCell<$plugin> =
                    const { ::std::cell::OnceCell::new() };
            }

            struct Export;

            impl $crate::Exported for Export {
                type Plugin = $plugin;
                const NAME: &'static str = ::core::env!("CARGO_PKG_NAME");
                const VERSION: &'static str = ::core::env!("CARGO_PKG_VERSION");
                fn with<T>(
                    f: impl ::core::ops::FnOnce(&::std::cell::OnceCell<$plugin>) -> T,
                ) -> T {
                    INSTANCE.with(f)
                }
            }

            $crate::__export_hook!(lifecycle Export);
            $($crate::__export_hook!($hook Export);)+
        };
    };
}

/// Outside of a component there is nobody to call by name: there the traits are only checked.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_hook {
    ($hook:ident $export:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::$hook::export!($export with_types_in $crate::bindings::$hook);
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::bindings::$hook::answers::<$export>;
    };
}

/// What [`export!`] implements: where the one instance is kept.
#[doc(hidden)]
pub trait Exported: 'static {
    /// The plugin.
    type Plugin: Plugin;
    /// Name of its crate.
    const NAME: &'static str;
    /// Version of its crate.
    const VERSION: &'static str;
    /// Lends the cell of the instance.
    fn with<T>(f: impl FnOnce(&std::cell::OnceCell<Self::Plugin>) -> T) -> T;

    /// Asks the instance.
    fn ask<T>(f: impl FnOnce(&Self::Plugin) -> Decision<T>) -> Result<T, String> {
        Self::with(|cell| match cell.get() {
            Some(plugin) => f(plugin).map_err(String::from),
            None => Err(NOT_BEGUN.to_owned()),
        })
    }
}

const NOT_BEGUN: &str = "the plugin was asked before `init`";

impl<E: Exported> lifecycle::Guest for E {
    fn init(config: String) -> Result<lifecycle::PluginInfo, String> {
        let plugin = E::Plugin::new(config::read(&config)?)?;
        let interest = plugin.interest();
        E::with(|cell| cell.set(plugin)).map_err(|_| "`init` was called twice".to_owned())?;
        Ok(lifecycle::PluginInfo {
            name: E::NAME.to_owned(),
            version: E::VERSION.to_owned(),
            interest: lifecycle::Interest {
                headers: interest.headers,
                events: interest.events,
                timers: interest.timers,
            },
        })
    }
}

impl<E: Exported> self_test::Guest for E
where
    E::Plugin: SelfTest,
{
    fn self_test() -> Vec<String> {
        E::ask(|plugin| Ok(plugin.self_test())).unwrap_or_else(|why| vec![why])
    }
}

/// The generated trait of an interface, answered by a trait of the SDK.
macro_rules! answers {
    ($hook:ident, $interface:ident, $on:ident:
     $function:ident($($name:ident: $type:ty),*) -> $answer:ty = |$plugin:ident| $ask:expr) => {
        impl<E: Exported> crate::bindings::$hook::exports::waypost::policy::$interface::Guest for E
        where
            E::Plugin: $on,
        {
            fn $function($($name: $type),*) -> Result<$answer, String> {
                E::ask(|$plugin| $ask)
            }
        }
    };
}

answers!(connect, connect_hook, OnConnect:
    on_connect(call: CallInfo, session: Session) -> SessionOutcome
    = |plugin| plugin.on_connect(&call, &session));
answers!(helo, helo_hook, OnHelo:
    on_helo(call: CallInfo, session: Session) -> SessionOutcome
    = |plugin| plugin.on_helo(&call, &session));
answers!(auth, auth_hook, OnAuth:
    on_auth(call: CallInfo, session: Session, credentials: Credentials) -> AuthDecision
    = |plugin| plugin.on_auth(&call, &session, &credentials));
answers!(sender, sender_hook, OnSender:
    on_sender(call: CallInfo, session: Session, envelope: Envelope) -> SessionOutcome
    = |plugin| plugin.on_sender(&Asked { call: &call, session: &session, envelope: &envelope }));
answers!(recipients, recipient_hook, OnRecipients:
on_recipients(call: CallInfo, session: Session, envelope: Envelope, recipients: Vec<Recipient>)
    -> Vec<RecipientOutcome>
= |plugin| plugin.on_recipients(
    &Asked { call: &call, session: &session, envelope: &envelope },
    &recipients,
));
answers!(message, message_hook, OnMessage:
on_message(call: CallInfo, session: Session, envelope: Envelope, info: MessageInfo)
    -> MessageOutcome
= |plugin| plugin.on_message(
    &Asked { call: &call, session: &session, envelope: &envelope },
    &info,
));
answers!(route, route_hook, OnRoute:
    on_route(call: CallInfo, message: Queued) -> Vec<RouteGroup>
    = |plugin| plugin.on_route(&call, &message));
answers!(prepare, prepare_hook, OnPrepare:
    on_prepare(call: CallInfo, delivery: Delivery) -> PrepareOutcome
    = |plugin| plugin.on_prepare(&call, &delivery));
answers!(attempt, attempt_hook, OnAttempt:
    on_attempt(call: CallInfo, attempt: Attempt) -> AttemptOutcome
    = |plugin| plugin.on_attempt(&call, &attempt));
answers!(events, event_hook, OnEvents:
    on_events(call: CallInfo, events: Vec<Event>) -> ()
    = |plugin| plugin.on_events(&call, &events));
answers!(timer, timer_hook, OnTimer:
    on_timer(call: CallInfo, name: String) -> ()
    = |plugin| plugin.on_timer(&call, &name));
