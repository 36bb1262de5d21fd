//! Changes that go on when their caller goes away.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Runs `change` in the caller's task; should the caller be dropped meanwhile, a task of its own
/// carries it to its end: a change that was written must also be known in memory.
pub(crate) fn finish<F>(change: F) -> Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    Finish { change: Some(Box::pin(change)), runtime: Handle::try_current().ok() }
}

#[must_use]
pub(crate) struct Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    change: Option<Pin<Box<F>>>,
    runtime: Option<Handle>,
}

impl<F> Future for Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(mut change) = self.change.take() else { return Poll::Pending };
        let result = change.as_mut().poll(context);
        if result.is_pending() {
            self.change = Some(change);
        }
        result
    }
}

impl<F> Drop for Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        if let (Some(change), Some(runtime)) = (self.change.take(), &self.runtime) {
            runtime.spawn(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_is_finished() {
        let done = Arc::new(AtomicBool::new(false));
        let change = |done: Arc<AtomicBool>| async move {
            sleep(Duration::from_secs(2)).await;
            done.store(true, Ordering::SeqCst);
            7
        };
        assert!(timeout(Duration::from_secs(1), finish(change(done.clone()))).await.is_err());
        assert!(!done.load(Ordering::SeqCst));
        sleep(Duration::from_secs(2)).await;
        assert!(done.load(Ordering::SeqCst));
        assert_eq!(finish(change(done)).await, 7);
    }
}
