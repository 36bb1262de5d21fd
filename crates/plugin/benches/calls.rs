//! What a hook costs: one recipient, or a small message, asked of a plugin whose instance is there
//! already, in four languages; and where no plugin answers.
//!
//! `cargo xtask guests && cargo bench -p waypost-plugin`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on says so")]
#![allow(missing_docs, reason = "criterion's macros write functions")]

#[path = "../tests/testbed/mod.rs"]
mod testbed;

use criterion::{Criterion, criterion_group, criterion_main};
use testbed::mail::{TO, facts, letter, number, recipients, sender, transaction};
use testbed::{Bed, guest};
use waypost_hooks::{Hooks as _, MessageView};
use waypost_mail::MessageId;
use waypost_plugin::PluginConfig;

/// That of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn calls(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let guards = ["rust", "c", "javascript", "python"];
    let guard = |language: &&str| PluginConfig::new("guard", guest(&format!("guard-{language}")));
    let content = PluginConfig::new("content", guest("five-hooks"));
    let beds = guards.iter().map(|language| (*language, vec![guard(language)]));
    let beds = [("rust, no opinion", vec![content])].into_iter().chain(beds);
    let (facts, letter, sender, to) = (facts("mx"), letter(), sender(), recipients(&TO));
    let (before, complete) = (transaction(&facts, &sender, &[]), transaction(&facts, &sender, &to));
    let view = MessageView { transaction: complete, id: MessageId(number()), text: &letter };
    for (name, plugins) in beds.chain([("no plugin", Vec::new())]) {
        let mut bed = runtime.block_on(Bed::with(plugins));
        bed.nobody_watches();
        let hooks = &bed.answers;
        criterion.bench_function(&format!("sender, {name}"), |bencher| {
            bencher.to_async(&runtime).iter(async || hooks.on_sender(&before).await.unwrap());
        });
        criterion.bench_function(&format!("recipients x1, {name}"), |bencher| {
            bencher
                .to_async(&runtime)
                .iter(async || hooks.on_recipients(&before, &to[..1]).await.unwrap());
        });
        criterion.bench_function(&format!("message, {name}"), |bencher| {
            bencher.to_async(&runtime).iter(async || hooks.on_message(&view).await.unwrap());
        });
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
