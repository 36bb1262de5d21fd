//! The queue.

use std::sync::Arc;

use waypost_mail::{Clock, Entry, MessageId, Timestamp};
use waypost_spool::{Change, Content, Spool, SpoolError};

use crate::{
    AdminError, Config, Filter, Metrics, Prepared, Settlement, Status, Summary, Ticket, Touched,
};

/// What waits. Shared as `Arc<Queue>`.
#[derive(Debug)]
pub struct Queue {
    spool: Arc<dyn Spool>,
    config: Config,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Queue {
    /// Loads the schedule from the spool.
    pub async fn open(
        spool: Arc<dyn Spool>,
        config: Config,
        clock: Arc<dyn Clock>,
        _seed: u64,
    ) -> Result<Arc<Queue>, SpoolError> {
        Ok(Arc::new(Queue { spool, config, clock, metrics: Metrics::default() }))
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Makes the message durable and schedules it.
    pub async fn commit(&self, prepared: Prepared) -> Result<MessageId, SpoolError> {
        let id = prepared.id();
        self.spool.commit(Change::Accept(Box::new(prepared.into_arrival()))).await?;
        Ok(id)
    }

    /// Fails when new mail should be refused, without trying.
    pub fn accepting(&self) -> Result<(), SpoolError> {
        self.spool.accepting(self.clock.now())
    }

    /// Waits until something is due.
    pub async fn next(&self) -> Option<Ticket> {
        None
    }

    /// No more tickets.
    pub fn close(&self) {}

    /// Waits until no lease is out.
    pub async fn idle(&self) {}

    /// The message's bytes.
    pub fn content(&self, id: MessageId) -> Result<Box<dyn Content>, SpoolError> {
        self.spool.content(id)
    }

    /// When to try again what has been tried so often.
    pub fn retry_at(&self, _tries: u32) -> Timestamp {
        self.clock.now().after(self.config.retry.first)
    }

    /// Ends a lease.
    pub async fn settle(&self, _ticket: Ticket, _settlement: Settlement) -> Result<(), SpoolError> {
        Ok(())
    }

    /// The destination could not be reached.
    pub fn rest(&self, _destination: &str, _why: String) {}

    /// The destination answered.
    pub fn answered(&self, _destination: &str) {}

    /// Messages that match.
    pub fn list(&self, _filter: &Filter, _limit: usize) -> Result<Vec<Summary>, SpoolError> {
        Ok(Vec::new())
    }

    /// One message.
    pub fn show(&self, id: MessageId) -> Result<Entry, SpoolError> {
        self.spool.load(id)
    }

    /// Holds what waits.
    pub async fn hold(&self, id: MessageId, _reason: String) -> Result<Touched, AdminError> {
        Err(AdminError::Unknown(id))
    }

    /// Lets go what is held.
    pub async fn release(&self, id: MessageId) -> Result<Touched, AdminError> {
        Err(AdminError::Unknown(id))
    }

    /// Makes what waits due now.
    pub async fn retry(&self, id: MessageId) -> Result<Touched, AdminError> {
        Err(AdminError::Unknown(id))
    }

    /// Removes without a notice.
    pub async fn delete(&self, id: MessageId) -> Result<Touched, AdminError> {
        Err(AdminError::Unknown(id))
    }

    /// Takes leases on everything that is not done.
    pub async fn lease(&self, id: MessageId) -> Result<Vec<Ticket>, AdminError> {
        Err(AdminError::Unknown(id))
    }

    /// At a glance.
    pub fn status(&self) -> Status {
        Status::default()
    }
}
