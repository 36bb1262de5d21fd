//! What a guest can be asked: for each hook a type that holds the arguments of its one function.

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};
use waypost_mail::Timestamp;

use crate::Stage;
use crate::bindings::exports::waypost::policy as exports;
use crate::bindings::waypost::policy::types as wit;
use crate::context::Context;

/// A question, and how it is put.
pub(crate) trait Question: Send + Sync {
    /// Which hook answers it.
    const STAGE: Stage;
    /// What comes back.
    type Answer: Send;
    /// When it is put.
    fn moment(&self) -> Timestamp;
    /// Calls the guest. The outer error is a fault, the inner one the guest's own word.
    fn put(
        &self,
        store: &mut Store<Context>,
        guests: &Guests,
    ) -> impl Future<Output = wasmtime::Result<Result<Self::Answer, String>>> + Send;
}

/// The hook was probed when the plugin was loaded.
fn missing(stage: Stage) -> wasmtime::Error {
    wasmtime::format_err!("the component has no {}", stage.interface())
}

/// Scalars go by value, everything else by reference.
macro_rules! question_argument {
    ($self:ident.call) => {
        $self.call
    };
    ($self:ident.name) => {
        $self.name.as_str()
    };
    ($self:ident.$field:ident) => {
        $self.$field.as_argument()
    };
}

macro_rules! questions {
    ($($question:ident, $stage:ident, $guest:ident, $module:ident, $function:ident,
       ($($field:ident: $kind:ty),*) -> $answer:ty;)*) => {
        $(
            #[doc = concat!("The arguments of `", stringify!($function), "`.")]
            #[derive(Debug, Clone)]
            pub(crate) struct $question {
                $(pub(crate) $field: $kind,)*
            }

            impl Question for $question {
                const STAGE: Stage = Stage::$stage;
                type Answer = $answer;
                fn moment(&self) -> Timestamp {
                    Timestamp(self.call.now_ms)
                }
                async fn put(
                    &self,
                    store: &mut Store<Context>,
                    guests: &Guests,
                ) -> wasmtime::Result<Result<$answer, String>> {
                    let Some(guest) = &guests.$guest else { return Err(missing(Stage::$stage)) };
                    guest.$function(&mut *store, $(question_argument!(self.$field)),*).await
                }
            }
        )*

        /// Where the hooks of a component are; found once.
        pub(crate) struct Hooks {
            lifecycle: Option<exports::lifecycle::GuestIndices>,
            self_test: Option<exports::self_test::GuestIndices>,
            $($guest: Option<exports::$module::GuestIndices>,)*
        }

        impl Hooks {
            /// Which hooks the component has, by name; their types are checked by [`Hooks::load`].
            pub(crate) fn probe(pre: &InstancePre<Context>) -> Hooks {
                Hooks {
                    lifecycle: exports::lifecycle::GuestIndices::new(pre).ok(),
                    self_test: exports::self_test::GuestIndices::new(pre).ok(),
                    $($guest: exports::$module::GuestIndices::new(pre).ok(),)*
                }
            }

            /// True when the component answers at this stage.
            pub(crate) fn answers(&self, stage: Stage) -> bool {
                match stage {
                    $(Stage::$stage => self.$guest.is_some(),)*
                }
            }

            /// The functions of one instance, their types checked to the last field.
            pub(crate) fn load(
                &self,
                store: &mut Store<Context>,
                instance: &Instance,
            ) -> wasmtime::Result<Guests> {
                Ok(Guests {
                    lifecycle: match &self.lifecycle {
                        Some(found) => Some(found.load(&mut *store, instance).map_err(in_interface("lifecycle"))?),
                        None => None,
                    },
                    self_test: match &self.self_test {
                        Some(found) => Some(found.load(&mut *store, instance).map_err(in_interface("self-test"))?),
                        None => None,
                    },
                    $($guest: match &self.$guest {
                        Some(found) => Some(
                            found
                                .load(&mut *store, instance)
                                .map_err(in_interface(Stage::$stage.interface()))?,
                        ),
                        None => None,
                    },)*
                })
            }
        }

        /// The functions of one instance.
        pub(crate) struct Guests {
            pub(crate) lifecycle: Option<exports::lifecycle::Guest>,
            pub(crate) self_test: Option<exports::self_test::Guest>,
            $($guest: Option<exports::$module::Guest>,)*
        }
    };
}

fn in_interface(interface: &'static str) -> impl Fn(wasmtime::Error) -> wasmtime::Error {
    move |error| error.context(format!("its {interface} is not the one of this host"))
}

/// What bindings take for an argument of this type.
trait AsArgument {
    type Argument: ?Sized;
    fn as_argument(&self) -> &Self::Argument;
}

macro_rules! by_reference {
    ($($kind:ty),*) => {
        $(impl AsArgument for $kind {
            type Argument = $kind;
            fn as_argument(&self) -> &$kind {
                self
            }
        })*
    };
}

impl<T> AsArgument for Vec<T> {
    type Argument = [T];
    fn as_argument(&self) -> &[T] {
        self
    }
}

by_reference!(
    wit::Session,
    wit::Credentials,
    wit::Envelope,
    wit::MessageInfo,
    wit::Queued,
    wit::Delivery,
    wit::Attempt
);

questions! {
    OnConnect, Connect, connect, connect_hook, call_on_connect,
        (call: wit::CallInfo, session: wit::Session) -> wit::SessionOutcome;
    OnHelo, Helo, helo, helo_hook, call_on_helo,
        (call: wit::CallInfo, session: wit::Session) -> wit::SessionOutcome;
    OnAuth, Auth, auth, auth_hook, call_on_auth,
        (call: wit::CallInfo, session: wit::Session, credentials: wit::Credentials) -> wit::AuthDecision;
    OnSender, Sender, sender, sender_hook, call_on_sender,
        (call: wit::CallInfo, session: wit::Session, envelope: wit::Envelope) -> wit::SessionOutcome;
    OnRecipients, Recipients, recipients, recipient_hook, call_on_recipients,
        (call: wit::CallInfo, session: wit::Session, envelope: wit::Envelope,
         recipients: Vec<wit::Recipient>) -> Vec<wit::RecipientOutcome>;
    OnMessage, Message, message, message_hook, call_on_message,
        (call: wit::CallInfo, session: wit::Session, envelope: wit::Envelope,
         info: wit::MessageInfo) -> wit::MessageOutcome;
    OnRoute, Route, route, route_hook, call_on_route,
        (call: wit::CallInfo, message: wit::Queued) -> Vec<wit::RouteGroup>;
    OnPrepare, Prepare, prepare, prepare_hook, call_on_prepare,
        (call: wit::CallInfo, delivery: wit::Delivery) -> wit::PrepareOutcome;
    OnAttempt, Attempt, attempt, attempt_hook, call_on_attempt,
        (call: wit::CallInfo, attempt: wit::Attempt) -> wit::AttemptOutcome;
    OnEvents, Events, events, event_hook, call_on_events,
        (call: wit::CallInfo, events: Vec<wit::Event>) -> ();
    OnTimer, Timer, timer, timer_hook, call_on_timer,
        (call: wit::CallInfo, name: String) -> ();
}
