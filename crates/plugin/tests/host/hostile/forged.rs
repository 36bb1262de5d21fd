//! What no toolchain makes: the wire between guest and host, broken by hand.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use waypost_hooks::FaultKind;
use waypost_plugin::{Budget, PluginConfig, Stage};

use crate::testbed::forge::{Forge, RECIPIENTS, answering, by_hand, recipients, write};
use crate::testbed::{Bed, hostile};

/// A host built for tests makes memories and tables larger slowly, and its time is the guest's.
const AMPLE: Budget = Budget { cpu: Duration::from_secs(20), wall: Duration::from_secs(30) };

/// An answer without an opinion: `ok` and an empty list.
const NOTHING: &str = "(i32.const 1024)";

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The call fails in this way, the next one in the same way, and another plugin is none the wiser.
async fn fails(plugin: PluginConfig, kind: FaultKind, says: &str) {
    let mut bed = Bed::with([plugin]).await;
    for _ in 0..2 {
        let fault = bed.ask(Stage::Recipients, "good").await.unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.text.contains(says), "{fault}");
    }
    assert_eq!(bed.decisions().len(), 2);
    let kind = format!("{kind:?}").to_ascii_lowercase();
    let labels = format!("{{kind=\"{kind}\",plugin=\"forged\",stage=\"recipients\"}}");
    assert_eq!(bed.counted(&format!("waypost_policy_faults_total{labels}")), 2.0);
    // Each failed call took its instance along: the second one had one made.
    assert_eq!(bed.counted("waypost_policy_instances_total{plugin=\"forged\"}"), 1.0);
}

#[tokio::test]
async fn what_is_right_is_taken() {
    let directory = directory();
    let bed = Bed::with([by_hand(directory.path(), "", NOTHING)]).await;
    bed.good(Stage::Recipients).await;
    // One outcome of zeros: recipient 0 proceeds.
    let one = "(i32.store (i32.const 1028) (i32.const 2048)) (i32.store (i32.const 1032) (i32.const 1)) (i32.const 1024)";
    let bed = Bed::with([by_hand(directory.path(), "", one)]).await;
    bed.good(Stage::Recipients).await;
}

/// 3: a start function that never ends is an `init` that never ends.
#[tokio::test]
async fn an_endless_start_is_refused() {
    let directory = directory();
    let start = "(start $start) (func $start (loop $again (br $again)))";
    let said = Bed::refused([by_hand(directory.path(), start, NOTHING)]).await;
    assert!(said.contains("computes without end"), "{said}");
}

/// 3: the allocator that takes the arguments never ends.
#[tokio::test]
async fn an_endless_allocator_ends_with_the_budget() {
    let directory = directory();
    let module = recipients("", NOTHING).replace(
        "(global.set $next (i32.and",
        "(loop $again (br $again)) (global.set $next (i32.and",
    );
    let forge = Forge { changes: &[], world: RECIPIENTS, module: &module };
    let began = Instant::now();
    fails(forge.plugin(directory.path()), FaultKind::Cpu, "").await;
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// 12: answers that point where nothing is.
#[tokio::test]
async fn bad_pointers_are_no_answer() {
    let directory = directory();
    let list = |at: &str, len: &str| {
        format!(
            "(i32.store (i32.const 1028) (i32.const {at})) \
             (i32.store (i32.const 1032) (i32.const {len})) (i32.const 1024)"
        )
    };
    let bodies = [
        // The answer itself lies beyond the memory, or crooked.
        "(i32.const 0x7fffffff)".to_owned(),
        "(i32.const -4)".to_owned(),
        "(i32.const 1025)".to_owned(),
        // Neither ok nor err.
        "(i32.store8 (i32.const 1024) (i32.const 2)) (i32.const 1024)".to_owned(),
        list("0x7ffffffc", "1"),
        list("2049", "1"),
        list("2048", "100000"),
        list("2048", "-1"),
        // 10^7 outcomes, 520 MB of them.
        list("2048", "10000000"),
        // A verdict that there is none of, in the first outcome.
        format!("(i32.store8 (i32.const 2052) (i32.const 9)) {}", list("2048", "1")),
        // A reason whose text is no UTF-8.
        format!(
            "(i32.store (i32.const 2092) (i32.const 3000)) (i32.store (i32.const 2096) (i32.const 1)) \
             (i32.store (i32.const 3000) (i32.const 4000)) (i32.store (i32.const 3004) (i32.const 1)) \
             (i32.store8 (i32.const 4000) (i32.const 0xff)) {}",
            list("2048", "1")
        ),
        // An error text of 1 GiB.
        "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store (i32.const 1028) (i32.const 0)) \
         (i32.store (i32.const 1032) (i32.const 0x40000000)) (i32.const 1024)"
            .to_owned(),
    ];
    for body in bodies {
        let plugin = by_hand(directory.path(), "", &body);
        let bed = Bed::with([plugin]).await;
        let fault = bed.ask(Stage::Recipients, "good").await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::BadAnswer, "{body}: {fault}");
    }
}

/// 12: arguments of host functions that point where nothing is, or hand over too much.
#[tokio::test]
async fn bad_arguments_end_the_call() {
    let directory = directory();
    let import = r#"(import "waypost:policy/message@0.1.0" "find"
        (func $find (param i32 i32 i64 i32)))"#;
    let world = format!("import waypost:policy/message@0.1.0; {RECIPIENTS}");
    for (at, len) in [("0x7fffffff", "1"), ("0", "-1")] {
        let body = format!(
            "(call $find (i32.const {at}) (i32.const {len}) (i64.const 0) (i32.const 512)) {NOTHING}"
        );
        let module = recipients(import, &body);
        let forge = Forge { changes: &[], world: &world, module: &module };
        fails(forge.plugin(directory.path()), FaultKind::Quota, "").await;
    }
    // 5 MiB in one go.
    let body = format!(
        "(drop (memory.grow (i32.const 100))) \
         (call $find (i32.const 0) (i32.const 5242880) (i64.const 0) (i32.const 512)) {NOTHING}"
    );
    let module = recipients(import, &body);
    let forge = Forge { changes: &[], world: &world, module: &module };
    fails(forge.plugin(directory.path()), FaultKind::Quota, "too much data").await;
}

/// 5: many memories, each small enough.
#[tokio::test]
async fn many_memories_are_counted_together() {
    let directory = directory();
    let five = "(memory 800) ".repeat(5);
    let said = Bed::refused([by_hand(directory.path(), &five, NOTHING)]).await;
    assert!(said.contains("more memory than it may have"), "{said}");
    // Growing each a little is growing all of them.
    let body = "(drop (memory.grow $a (i32.const 1000))) \
                (loop $again (br_if $again (i32.ne (memory.grow $b (i32.const 16)) (i32.const -1)))) \
                unreachable";
    // Memory 0 must be the one the wire uses.
    let first = r#"(memory (export "memory") 4)"#;
    let module =
        recipients("", body).replace(first, &format!("{first} (memory $a 1) (memory $b 1)"));
    let forge = Forge { changes: &[], world: RECIPIENTS, module: &module };
    let mut plugin = forge.plugin(directory.path());
    plugin.budgets.insert(Stage::Recipients, AMPLE);
    fails(plugin, FaultKind::Memory, "unreachable").await;
}

/// 6: tables have an end.
#[tokio::test]
async fn tables_have_an_end() {
    let directory = directory();
    let said = Bed::refused([by_hand(directory.path(), "(table 10000000 funcref)", NOTHING)]).await;
    assert!(said.contains("forged"), "{said}");
    let grow = "(loop $again (br_if $again (i32.ne \
                (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1)))) unreachable";
    let mut plugin = by_hand(directory.path(), "(table $t 1 funcref)", grow);
    plugin.budgets.insert(Stage::Recipients, AMPLE);
    fails(plugin, FaultKind::Memory, "unreachable").await;
}

/// 7: handles of resources have an end.
#[tokio::test]
async fn handles_have_an_end() {
    let directory = directory();
    let import =
        r#"(import "[export]things" "[resource-new]thing" (func $new (param i32) (result i32)))"#;
    let module = recipients(
        import,
        "(loop $again (drop (call $new (i32.const 7))) (br $again)) unreachable",
    );
    let world = format!("export things: interface {{ resource thing; }} {RECIPIENTS}");
    let forge = Forge { changes: &[], world: &world, module: &module };
    let bed = Bed::with([forge.plugin(directory.path())]).await;
    let fault = bed.ask(Stage::Recipients, "good").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Quota, "{fault}");
}

/// 40: the allocator asks the host while the host hands over arguments.
#[tokio::test]
async fn who_asks_while_it_is_asked_is_stopped() {
    let directory = directory();
    let import = r#"(import "waypost:policy/clock@0.1.0" "now-ms" (func $now (result i64)))"#;
    let world = format!("import waypost:policy/clock@0.1.0; {RECIPIENTS}");
    let module = recipients(import, NOTHING)
        .replace("(global.set $next (i32.and", "(drop (call $now)) (global.set $next (i32.and");
    let forge = Forge { changes: &[], world: &world, module: &module };
    fails(forge.plugin(directory.path()), FaultKind::Trap, "cannot leave component instance").await;
}

/// What comes after an answer belongs to it: a trap while the guest cleans up takes the answer along.
#[tokio::test]
async fn a_trap_after_the_answer_is_a_trap() {
    let directory = directory();
    let module = recipients(
        r#"(func (export "cabi_post_waypost:policy/recipient-hook@0.1.0#on-recipients") (param i32)
            unreachable)"#,
        NOTHING,
    );
    let forge = Forge { changes: &[], world: RECIPIENTS, module: &module };
    fails(forge.plugin(directory.path()), FaultKind::Trap, "unreachable").await;
}

/// 33: nothing to call.
#[tokio::test]
async fn who_answers_nothing_is_refused() {
    let directory = directory();
    let module = answering("waypost:policy/self-test@0.1.0#self-test", "", "(i32.const 1024)")
        .replace(
            "(param i32) (result i32)\n                (global.set $next (i32.const 65536))",
            "(result i32)",
        );
    let forge =
        Forge { changes: &[], world: "export waypost:policy/self-test@0.1.0;", module: &module };
    let said = Bed::refused([forge.plugin(directory.path())]).await;
    assert!(said.contains("exports no hook, so there is nothing to call"), "{said}");
}

/// 34: built against a contract whose recipient has one field more.
#[tokio::test]
async fn another_shape_is_refused() {
    let directory = directory();
    let module = recipients("", NOTHING);
    let change = ("record recipient {", "record recipient { colour: u32,");
    let forge = Forge { changes: &[change], world: RECIPIENTS, module: &module };
    let said = Bed::refused([forge.plugin(directory.path())]).await;
    assert!(said.contains("recipient-hook is not the one of this host"), "{said}");
    assert!(said.contains("field"), "{said}");
}

/// 35: another version, and a function that this version does not have.
#[tokio::test]
async fn another_version_is_refused() {
    let directory = directory();
    let module = recipients("", NOTHING).replace("@0.1.0", "@0.2.0");
    let change = ("package waypost:policy@0.1.0;", "package waypost:policy@0.2.0;");
    let forge = Forge {
        changes: &[change],
        world: "export waypost:policy/recipient-hook@0.2.0;",
        module: &module,
    };
    let said = Bed::refused([forge.plugin(directory.path())]).await;
    assert!(said.contains("@0.2.0") && said.contains("serves waypost:policy@0.1"), "{said}");

    let import = r#"(import "waypost:policy/clock@0.1.9" "year" (func $year (result i64)))"#;
    let module = recipients(import, &format!("(drop (call $year)) {NOTHING}"))
        .replace("recipient-hook@0.1.0", "recipient-hook@0.1.9");
    let forge = Forge {
        changes: &[
            ("package waypost:policy@0.1.0;", "package waypost:policy@0.1.9;"),
            ("interface clock {", "interface clock { year: func() -> u64;"),
        ],
        world: "import waypost:policy/clock@0.1.9; export waypost:policy/recipient-hook@0.1.9;",
        module: &module,
    };
    let said = Bed::refused([forge.plugin(directory.path())]).await;
    assert!(said.contains("clock@0.1.9") && said.contains("year"), "{said}");
}

/// A later patch of the same track, of which nothing unknown is used, is served.
#[tokio::test]
async fn a_later_patch_is_served() {
    let directory = directory();
    let module = recipients("", NOTHING).replace("@0.1.0", "@0.1.7");
    let forge = Forge {
        changes: &[("package waypost:policy@0.1.0;", "package waypost:policy@0.1.7;")],
        world: "export waypost:policy/recipient-hook@0.1.7;",
        module: &module,
    };
    let bed = Bed::with([forge.plugin(directory.path())]).await;
    bed.good(Stage::Recipients).await;
}

/// 39: WASI is not offered, and what to do about it is said.
#[tokio::test]
async fn wasi_is_refused() {
    let directory = directory();
    let octets = wat::parse_str(
        r#"(component (import "wasi:cli/environment@0.2.6" (instance
            (export "get-arguments" (func (result (list string)))))))"#,
    )
    .unwrap();
    let plugin = PluginConfig::new("forged", write(directory.path(), "wasi.wasm", &octets));
    let said = Bed::refused([plugin]).await;
    assert!(said.contains("wasi:cli/environment@0.2.6") && said.contains("--stub-wasi"), "{said}");
}

/// 41: asynchronous functions.
#[tokio::test]
async fn asynchronous_functions_are_refused() {
    let directory = directory();
    let octets = wat::parse_str(
        r#"(component
            (core module $m (func (export "f") (result i32) i32.const 0)
                (func (export "cb") (param i32 i32 i32) (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func (export "f") async
                (canon lift (core func $i "f") async (callback (core func $i "cb")))))"#,
    )
    .unwrap();
    let plugin = PluginConfig::new("forged", write(directory.path(), "async.wasm", &octets));
    let said = Bed::refused([plugin]).await;
    assert!(said.contains("asynchronous ABI") && said.contains("--sync"), "{said}");
}

/// 36: what is no component is not compiled, and compiled code is never loaded.
#[tokio::test]
async fn what_is_no_component_is_refused() {
    let directory = directory();
    let refused = async |name: &str, octets: &[u8]| {
        let path = write(directory.path(), name, octets);
        Bed::refused([PluginConfig::new("forged", path)]).await
    };
    let core = wat::parse_str("(module)").unwrap();
    assert!(refused("core.wasm", &core).await.contains("is a core module, not a component"));
    let whole = std::fs::read(crate::testbed::guest("hostile")).unwrap();
    let half = refused("half.wasm", &whole[..whole.len() / 2]).await;
    assert!(half.contains("cannot compile"), "{half}");
    assert!(refused("empty.wasm", b"").await.contains("no WebAssembly component"));
    assert!(refused("code.wasm", b"\x7fELF\x02\x01\x01\0").await.contains("is compiled code"));
    let said = Bed::refused([PluginConfig::new("p", directory.path().join("none"))]).await;
    assert!(said.contains("cannot read"), "{said}");
    let said = Bed::refused([PluginConfig::new("p", directory.path())]).await;
    assert!(said.contains("cannot read"), "{said}");
}

/// Proposals that make runs differ or that nobody has tested here are off.
#[tokio::test]
async fn features_that_are_off_are_refused() {
    let directory = directory();
    let refused = async |module: &str| {
        let text = format!("(component {module})");
        let octets = wat::parse_str(&text).unwrap();
        let path = write(directory.path(), "feature.wasm", &octets);
        let said = Bed::refused([PluginConfig::new("forged", path)]).await;
        assert!(said.contains("cannot compile"), "{module}: {said}");
    };
    refused("(core module (memory 1 1 shared))").await;
    refused("(core module (memory i64 1))").await;
    refused("(core module (type (struct)))").await;
    refused("(core module (tag))").await;
    refused("(core module (func (result v128) (f32x4.relaxed_min (v128.const i64x2 0 0) (v128.const i64x2 0 0))))").await;
    refused("(core module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))").await;
}

/// While one plugin does its worst, another one of the same policy answers.
#[tokio::test]
async fn others_answer_all_the_while() {
    let directory = directory();
    let forged = by_hand(directory.path(), "", "unreachable");
    let mut forged =
        crate::testbed::remedied(forged, Stage::Recipients, waypost_plugin::OnError::Open);
    forged.slots = 1;
    let mut bed = Bed::with([forged, hostile("other", "")]).await;
    for call in 1..=20 {
        bed.good(Stage::Recipients).await;
        assert_eq!(bed.reasons(), [format!("call: {call}")]);
    }
}
