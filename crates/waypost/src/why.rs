//! `waypost why ID`: the whole story of one message, from the running relay or from its files.

use anyhow::{Context, Result, bail};
use waypost_admin::{Client, ClientError, Story};
use waypost_config::Places;
use waypost_history::Archive;
use waypost_mail::{Clock, MessageId, SystemClock};

use crate::args::WhyArgs;
use crate::offline;

/// Tells why a message is where it is, and all that happened to it.
///
/// # Errors
/// When nothing is known of it; says so.
pub async fn why(args: &WhyArgs) -> Result<()> {
    let id = &args.id;
    let id: MessageId = id.parse().with_context(|| format!("'{id}' is no message id"))?;
    let places = waypost_config::places(&args.output.config.config)?;
    let path = format!("/v1/messages/{id}/why");
    let story = match Client::new(&places.socket).get::<Story>(&path).await {
        Err(ClientError::NotRunning(_)) => at_rest(&places, id).await?,
        story => story?,
    };
    match args.output.json {
        true => println!("{}", serde_json::to_string_pretty(&story)?),
        false => print!("{story}"),
    }
    Ok(())
}

async fn at_rest(places: &Places, id: MessageId) -> Result<Story> {
    eprintln!("waypost is not running; reading {}", places.spool.display());
    let standing = offline::standing(&places.spool, id).await?;
    let history = match places.history.clone() {
        None => None,
        Some(directory) => {
            let read = move || Archive::at(directory).about(id);
            Some(tokio::task::spawn_blocking(read).await??)
        }
    };
    let story = Story::new(id, SystemClock.now(), standing, history).at_rest();
    if story.is_unknown() {
        bail!("{}", story.unknown());
    }
    Ok(story)
}
