//! What is told of an attempt that is cut off: by the end of the program, or by a bug. Then nothing is
//! settled, and its steps so far would be lost with it.

use waypost_history::About;
use waypost_queue::Ticket;

use crate::Delivery;
use crate::attempt::Logbook;
use crate::story::{Ended, Told};

/// The logbook of an attempt under way. Dropped before it is [closed](Account::close) it is told as it is.
pub(crate) struct Account<'a> {
    delivery: &'a Delivery,
    ticket: &'a Ticket,
    log: Option<Logbook>,
}

impl<'a> Account<'a> {
    /// One for an attempt that begins.
    pub(crate) fn open(delivery: &'a Delivery, ticket: &'a Ticket) -> Account<'a> {
        Account { delivery, ticket, log: Some(delivery.logbook()) }
    }

    /// Where its steps are written down.
    pub(crate) fn log(&mut self) -> &mut Logbook {
        self.log.get_or_insert_with(|| self.delivery.logbook())
    }

    /// The attempt has come to its end, or is given up: what is settled is told with its outcome.
    pub(crate) fn close(mut self) -> Logbook {
        self.log.take().unwrap_or_else(|| self.delivery.logbook()).end()
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        let pen = self.delivery.parts.events.pen();
        let Some(log) = self.log.take().filter(|_| !pen.is_idle()) else { return };
        let Ticket { id, destination, recipients, held, .. } = self.ticket;
        let ended = match std::thread::panicking() {
            true => "a bug ended it",
            false => "the program ended, or gave it up",
        };
        let told = Told {
            log: log.end(),
            destination: destination.clone(),
            recipients: recipients.clone(),
            held: held.clone(),
            ended: Ended::CutOff(ended),
            dialogue: pen.dialogue(),
        };
        pen.tell(About::Message(*id), told.weight(), || told.note());
    }
}
