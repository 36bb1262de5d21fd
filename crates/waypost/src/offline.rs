//! The queue of a relay that does not run: its spool is read, and nothing in it changed.

use std::path::Path;

use anyhow::{Context, Result, bail};
use waypost_config::Places;
use waypost_mail::{Clock, Entry, MessageId, SystemClock};
use waypost_queue::{AtRest, Field, Group, Page, Selector, Standing};
use waypost_spool::{Config, Inspector, SpoolError};

/// Messages above `after` of which somebody is selected, oldest first, at most `limit` of them.
///
/// # Errors
/// When there is no spool, or a program has it: one that is starting or ending, or whose socket is
/// not where the configuration says.
pub async fn list(
    places: &Places,
    selector: &Selector,
    after: Option<MessageId>,
    limit: usize,
) -> Result<Page> {
    let selector = selector.clone();
    let (queue, now) = (places.queue.clone(), SystemClock.now());
    read(&places.spool, move |inspector| {
        let mut page = Page::default();
        for id in inspector.ids().into_iter().filter(|id| Some(*id) > after) {
            let entry = match inspector.load(id) {
                Ok(entry) => entry,
                Err(SpoolError::Unknown(_)) => continue,
                Err(error) => {
                    eprintln!("{error}");
                    continue;
                }
            };
            let Some(summary) = selector.find(&entry, &queue, now) else { continue };
            if page.messages.len() == limit {
                page.next = page.messages.last().map(|last| last.id);
                break;
            }
            page.messages.push(summary);
        }
        Ok(page)
    })
    .await
}

/// The recipients that are selected, added up by what `by` says of them.
///
/// # Errors
/// As [`list`].
pub async fn summary(
    places: &Places,
    selector: &Selector,
    by: Field,
    limit: usize,
) -> Result<Vec<Group>> {
    let selector = selector.clone();
    let (mut queue, now) = (AtRest::new(&places.queue), SystemClock.now());
    read(&places.spool, move |inspector| {
        for id in inspector.ids() {
            match inspector.load(id) {
                Ok(entry) => queue.add(&entry),
                Err(SpoolError::Unknown(_)) => {}
                Err(error) => eprintln!("{error}"),
            }
        }
        Ok(queue.summary(&selector, by, limit, now))
    })
    .await
}

/// One message with all its recipients.
///
/// # Errors
/// As [`list`], and when there is no such message or its record is damaged.
pub async fn show(spool: &Path, id: MessageId) -> Result<Entry> {
    read(spool, move |inspector| Ok(inspector.load(id)?)).await
}

/// How a message stands; nothing when nothing of it is in the queue.
///
/// # Errors
/// As [`list`], and when its record is damaged.
pub async fn standing(spool: &Path, id: MessageId) -> Result<Option<Standing>> {
    read(spool, move |inspector| match inspector.load(id) {
        Ok(entry) => Ok(Some(Standing::at_rest(&entry))),
        Err(SpoolError::Unknown(_)) => Ok(None),
        Err(error) => Err(error.into()),
    })
    .await
}

/// Replaying a long log takes seconds.
async fn read<T: Send + 'static>(
    spool: &Path,
    look: impl FnOnce(&Inspector) -> Result<T> + Send + 'static,
) -> Result<T> {
    if matches!(spool.try_exists(), Ok(false)) {
        bail!("waypost is not running, and there is no spool {}", spool.display());
    }
    let config = Config::new(spool);
    tokio::task::spawn_blocking(move || {
        let inspector = Inspector::open(&config)
            .with_context(|| format!("cannot look into the spool {}", config.path.display()))?;
        if inspector.damaged() > 0 {
            eprintln!("{} octets of the log cannot be read", inspector.damaged());
        }
        look(&inspector)
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(spool: &Path) -> Places {
        let (socket, users, history) = (spool.join("none"), None, None);
        let queue = waypost_queue::Config::default();
        Places { socket, spool: spool.to_owned(), users, queue, local: None, tokens: None, history }
    }

    #[tokio::test]
    async fn no_spool_is_said_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("spool");
        let error = list(&places(&absent), &Selector::everything(), None, 10).await.unwrap_err();
        assert!(format!("{error:#}").contains("there is no spool"), "{error:#}");
        assert!(!absent.exists());
    }
}
