//! What may be said often, and logged seldom.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines of the log.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets one event through in a second, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Dam(Mutex<Level>);

#[derive(Debug, Default)]
struct Level {
    last: Option<Instant>,
    held: u64,
}

impl Dam {
    /// How many were held back since the last one that passed; nothing when this one is, too.
    pub(crate) fn lets_pass(&self) -> Option<u64> {
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if level.last.is_some_and(|last| last.elapsed() < PAUSE) {
            level.held += 1;
            return None;
        }
        level.last = Some(Instant::now());
        Some(std::mem::take(&mut level.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_in_a_second_and_the_number_of_the_others() {
        let dam = Dam::default();
        assert_eq!([dam.lets_pass(), dam.lets_pass(), dam.lets_pass()], [Some(0), None, None]);
        tokio::time::advance(PAUSE).await;
        assert_eq!([dam.lets_pass(), dam.lets_pass()], [Some(2), None]);
    }
}
