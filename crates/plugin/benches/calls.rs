//! What a hook costs: one recipient, asked of a plugin whose instance is there already, in four
//! languages; and where no plugin answers.
//!
//! `cargo xtask guests && cargo bench -p waypost-plugin`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on says so")]
#![allow(missing_docs, reason = "criterion's macros write functions")]

#[path = "../tests/testbed/mod.rs"]
mod testbed;

use criterion::{Criterion, criterion_group, criterion_main};
use testbed::mail::{facts, letter, message_of, recipients_of};
use testbed::{Bed, guest};
use waypost_plugin::PluginConfig;

fn calls(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let guards = ["rust", "c", "javascript", "python"];
    let guard = |language: &&str| PluginConfig::new("guard", guest(&format!("guard-{language}")));
    let beds = guards.iter().map(|language| (*language, vec![guard(language)]));
    for (name, plugins) in beds.chain([("no plugin", Vec::new())]) {
        let bed = runtime.block_on(Bed::with(plugins));
        let (facts, letter) = (facts("mx"), letter());
        criterion.bench_function(&format!("recipients x1, {name}"), |bencher| {
            bencher.to_async(&runtime).iter(async || {
                recipients_of(&bed.answers, &facts, &["a@example.org"]).await.unwrap()
            });
        });
        criterion.bench_function(&format!("message, {name}"), |bencher| {
            bencher
                .to_async(&runtime)
                .iter(async || message_of(&bed.answers, &facts, &letter).await.unwrap());
        });
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
