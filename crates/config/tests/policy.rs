//! Policy in the configuration: what is documented means what it says, and each mistake has its line.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use waypost_config::{Mistakes, Settings, words};
use waypost_identity::keygen::{Algorithm, generate};
use waypost_mail::{Allow, AllowRule, MessageId, NextHop, TlsLevel};
use waypost_plugin::{
    Access, Bucket, Budget, Compiler, EditGrants, Grants, Mode, OnError, PluginConfig, Stage,
};

/// Four lines, without which there is no configuration.
const MOVING: &str = r#"hostname = "relay.example.org"
spool = { path = "/var/spool/waypost" }
listener = [{ name = "mx", kind = "relay", address = "127.0.0.1:2525" }]
relay = { domains = ["example.org"] }
"#;

/// A machine on which there is what the files name.
struct Machine(TempDir);

impl Machine {
    fn new() -> Machine {
        let directory = tempfile::tempdir().expect("a directory");
        let machine = Machine(directory);
        fs::create_dir(machine.at("keys")).expect("a directory");
        fs::create_dir(machine.at("plugins")).expect("a directory");
        let key = generate(Algorithm::Ed25519).expect("a key");
        for (name, text) in [
            ("keys/main-2026.pem", key.private_pem()),
            ("customers.table", "example.org yes\n"),
            ("srs.secret", "open sesame\n"),
            ("provider.password", "secret\n"),
            ("plugins/guard.wasm", ""),
            ("plugins/rewrite.wasm", ""),
            ("waypost", ""),
        ] {
            fs::write(machine.at(name), text).expect("a file");
            machine.protect(name, 0o600);
        }
        machine
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn protect(&self, name: &str, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.at(name), mode).expect("a mode");
    }

    /// Loads `text`, which begins at line 5, with its paths led to this machine.
    fn load(&self, text: &str) -> Result<Settings, Mistakes> {
        let here = self.0.path().display();
        let text = format!("{MOVING}{text}")
            .replace("/etc/waypost/", &format!("{here}/"))
            .replace("/usr/bin/waypost", &format!("{here}/waypost"))
            .replace("WAYPOST_API_TOKEN", "PATH");
        Settings::parse(Path::new("w.toml"), &text)
    }

    fn good(&self, text: &str) -> Settings {
        self.load(text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    /// Every part must be told of `text`.
    fn refuses(&self, text: &str, parts: &[&str]) {
        let told = self.load(text).expect_err("the configuration was taken").to_string();
        for part in parts {
            assert!(told.contains(part), "no «{part}» in\n{told}");
        }
    }
}

/// The second block of TOML behind the heading that tells where all of it is.
fn documented() -> String {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = fs::read_to_string(document).expect("the document");
    let (_, text) = text.split_once("\n## Everything at once\n").expect("the heading");
    let block = text.split("```toml\n").nth(2).and_then(|rest| rest.split("```").next());
    block.expect("a second block").to_owned()
}

fn guard(settings: &Settings) -> &PluginConfig {
    &settings.reload.policy.plugins[0]
}

#[test]
fn what_plugins_share_is_lowered_as_documented() {
    let machine = Machine::new();
    let Settings { startup, reload } = machine.good(&documented());
    assert_eq!(startup.policy.directory, Path::new("/var/spool/waypost/policy"));
    assert_eq!(startup.policy.compiler, Compiler::Child(machine.at("waypost")));
    assert_eq!((startup.policy.keep, startup.watch_plugins), (5, false));
    assert_eq!(reload.keys.names().collect::<Vec<_>>(), ["main-2026"]);
    assert_eq!(reload.policy.tables["customers"], machine.at("customers.table"));
    let bucket = Bucket { tokens: 100, per: Duration::from_secs(60), burst: 200 };
    assert_eq!(reload.policy.limits["per-sender"], bucket);
    assert_eq!(reload.policy.secrets.keys().collect::<Vec<_>>(), ["api-token", "srs"]);
    let hop = &reload.routing.named["provider"];
    let host =
        NextHop::Host { host: "smtp.provider.example".to_owned(), port: 587, implicit_tls: false };
    assert_eq!((hop.hosts.in_turn(MessageId(1)), hop.tls), (vec![host], TlsLevel::Verify));
    let login = hop.credentials.as_ref().expect("a login");
    assert!(reload.credentials.contains_key(login) && startup.delivery.credentials.len() == 1);
    let pool = &startup.delivery.sources["bulk"];
    let ehlo = |place: usize| pool[place].ehlo.as_ref().map(ToString::to_string);
    let four: Vec<bool> = pool.iter().map(|source| source.address.is_ipv4()).collect();
    assert_eq!(four, [true, true, true, false]);
    assert_eq!(pool.iter().map(|source| source.weight).collect::<Vec<_>>(), [1, 3, 1, 1]);
    let proxies: Vec<String> =
        pool.iter().flat_map(|s| s.proxy.as_ref()).map(|p| p.to_string()).collect();
    assert_eq!(proxies, ["the proxy 10.0.0.9:5000", "the SOCKS5 proxy 10.0.0.9:1080"]);
    assert_eq!((ehlo(0), ehlo(1).as_deref()), (None, Some("out2.example.org")));
}

#[test]
fn a_plugin_is_lowered_as_documented_and_in_the_given_order() {
    let machine = Machine::new();
    let settings = machine.good(&documented());
    let names: Vec<&str> = settings.reload.policy.plugins.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["guard", "rewrite"]);
    let guard = guard(&settings);
    assert_eq!(guard.file, machine.at("plugins/guard.wasm"));
    assert_eq!(guard.digest, Some(waypost_plugin::Digest::of(b"")));
    assert_eq!((guard.mode, guard.slots, guard.isolated), (Mode::Enforce, 8, false));
    assert_eq!(guard.memory, 64 * 1024 * 1024);
    let own = r#"{"blocked":["spam.example"],"since":"2026-01-01","threshold":2.5}"#;
    assert_eq!(guard.config, own);
    let (soon, later) = (Duration::from_millis(50), Duration::from_secs(10));
    assert_eq!(guard.budgets[&Stage::Message], Budget { cpu: soon, wall: later });
    assert_eq!(guard.budgets.len(), 1);
    assert_eq!(guard.on_error[&Stage::Recipients], OnError::Open);
    assert_eq!(guard.on_error[&Stage::Message], OnError::Quarantine);
    let rewrite = &settings.reload.policy.plugins[1];
    assert_eq!(rewrite.mode, Mode::Shadow(0.1));
    let edit = EditGrants {
        add: vec!["X-*".to_owned()],
        remove: vec!["Subject".to_owned()],
        sender: true,
        recipients: true,
        body: true,
    };
    assert_eq!(rewrite.grants.edit, edit);
    let domains: Vec<String> = rewrite.grants.recipients.iter().map(ToString::to_string).collect();
    assert_eq!(domains, ["example.net", "*.example.net"]);
    assert!(rewrite.when.is_open() && rewrite.config == "{}");
}

#[test]
fn grants_and_conditions_are_lowered_as_documented() {
    let settings = Machine::new().good(&documented());
    let Grants { tables, kv, limits, dns, http, secrets, reveal, sign, edit, .. } =
        &guard(&settings).grants;
    assert_eq!((tables[0].as_str(), limits[0].as_str()), ("customers", "per-sender"));
    assert_eq!((secrets[0].as_str(), reveal[0].as_str()), ("api-token", "srs"));
    assert_eq!((sign[0].as_str(), *dns, kv.len()), ("main-2026", Some(20), 2));
    assert_eq!((kv["greylist"], kv["reputation"]), (Access::Write, Access::Read));
    assert_eq!(*edit, EditGrants::default());
    let rule = AllowRule {
        origin: "https://api.example".parse().expect("an origin"),
        methods: vec!["POST".to_owned()],
        path_prefix: "/v1/".to_owned(),
    };
    let allow = Allow {
        rules: vec![rule],
        max_response: 1 << 20,
        max_request: 1 << 20,
        max_timeout: Duration::from_secs(30),
        private: false,
        redirects: true,
    };
    assert_eq!(http.as_ref(), Some(&allow));
    let when = &guard(&settings).when;
    assert_eq!((when.authenticated, when.tls), (Some(true), Some(true)));
    assert_eq!((when.size_from, when.size_to), (Some(1 << 20), Some(10 << 20)));
    assert_eq!((when.listeners[0].as_str(), when.headers[0].as_str()), ("mx", "List-Id"));
    assert_eq!(when.clients[0].to_string(), "10.0.0.0/8");
    assert_eq!(when.sender_domains[0].to_string(), "example.org");
    assert_eq!(when.recipient_domains[0].to_string(), "*.example.net");
    assert_eq!(when.tags, [("guard/score".to_owned(), "high".to_owned())]);
}

#[test]
fn without_policy_nothing_is_asked_and_the_program_at_hand_would_compile() {
    let settings = Machine::new().good("").compiled_by("/opt/waypost");
    let Settings { startup, reload } = settings;
    assert!(reload.policy.plugins.is_empty() && reload.keys.names().next().is_none());
    assert_eq!(startup.policy.directory, Path::new("/var/spool/waypost/policy"));
    assert_eq!(startup.policy.compiler, Compiler::Child("/opt/waypost".into()));
}

/// A plugin with these lines, the first of which is line 8.
fn plugin(lines: &str) -> String {
    format!("[[plugin]]\nname = \"guard\"\nfile = \"/etc/waypost/plugins/guard.wasm\"\n{lines}\n")
}

#[test]
fn each_mistake_about_a_plugin_is_told_with_its_place_and_a_hint() {
    let machine = Machine::new();
    for (line, told) in [
        ("mod = 1", "w.toml:8:1: unknown key 'mod' in [plugin]\n    hint: did you mean 'mode'?"),
        (
            "mode = 'force'",
            "w.toml:8:8: 'plugin.mode' cannot be 'force'\n    hint: one of: enforce, dry-run, shadow",
        ),
        ("sample = 0.5", "w.toml:8:10: 'plugin.sample' goes with mode = \"shadow\" alone"),
        (
            "mode = 'shadow'\nsample = 1.5",
            "w.toml:9:10: 'plugin.sample' must be more than 0, at most 1",
        ),
        (
            "mode = 'shadow'\nsample = 'all'",
            "w.toml:9:10: 'plugin.sample' must be a number, not a string",
        ),
        ("digest = 'sha256:12'", "w.toml:8:10: 'plugin.digest': \"sha256:12\" is no SHA-256"),
        ("slots = 0", "w.toml:8:9: 'plugin.slots' must be from 1 to 1024"),
        ("memory = '5KiB'", "w.toml:8:10: 'plugin.memory' must be from 64KiB to 4GiB"),
        (
            "config = 'x'",
            "w.toml:8:10: 'plugin.config' must be a table, [plugin.config], not a string",
        ),
        (
            "config = { a = [1, nan] }",
            "w.toml:8:20: 'plugin.config.a' has a number that cannot be handed over",
        ),
        (
            "on-error = { auth = 'open' }",
            "w.toml:8:21: 'plugin.on-error.auth' cannot be 'open'\n    hint: one of: tempfail, closed\n",
        ),
        (
            "on-error = { mesage = 'open' }",
            "w.toml:8:14: unknown key 'mesage' in [plugin.on-error]\n    hint: did you mean 'message'?",
        ),
        (
            "budget = { route = { cpu = '11s' } }",
            "w.toml:8:28: 'plugin.budget.route.cpu' must be from 1ms to 10s",
        ),
        (
            "budget = { route = { wall = '61s' } }",
            "w.toml:8:29: 'plugin.budget.route.wall' must be from 1ms to 60s",
        ),
        (
            "budget = { helo = { cpu = '3s' } }",
            "w.toml:8:19: 'plugin.budget.helo.cpu' is longer than wall, which is 2s",
        ),
        (
            "budget = { helo = { cpu = 50 } }",
            "w.toml:8:27: 'plugin.budget.helo.cpu' must be a string in quotes",
        ),
    ] {
        machine.refuses(&plugin(line), &[told]);
    }
}

#[test]
fn each_mistake_about_grants_is_told_with_its_place_and_a_hint() {
    let machine = Machine::new();
    for (line, told) in [
        (
            "tables = ['vip']",
            "w.toml:8:22: there is no table 'vip' to grant\n    hint: [policy.tables] with vip = \"FILE\"",
        ),
        (
            "limits = ['hourly']",
            "w.toml:8:22: there is no limit 'hourly' to grant\n    hint: [policy.limits.hourly]",
        ),
        ("secrets = ['s']", "w.toml:8:23: there is no secret 's' to grant"),
        ("reveal = ['s']", "w.toml:8:22: there is no secret 's' to grant"),
        (
            "sign = ['main']",
            "w.toml:8:20: there is no signing key 'main' to grant\n    hint: [keys.main] with file",
        ),
        (
            "kv = { greylist = 'w' }",
            "w.toml:8:30: 'plugin.grants.kv.greylist' cannot be 'w'\n    hint: one of: r, rw",
        ),
        ("kv = { 'a/b' = 'r' }", "w.toml:8:19: 'plugin.grants.kv.a/b': 'a/b' is no name"),
        ("dns = 0", "w.toml:8:18: 'plugin.grants.dns' must be from 1 to 1000"),
        (
            "http = [{ origin = 'https://a.example/v1' }]",
            "w.toml:8:31: 'plugin.grants.http.origin': 'https://a.example/v1' is no origin",
        ),
        ("http = [{ methods = ['GET'] }]", "w.toml:8:20: 'plugin.grants.http.origin' is missing"),
        (
            "http = [{ origin = 'https://a.example', methods = ['post'] }]",
            "w.toml:8:63: 'plugin.grants.http.methods': 'post' is no method",
        ),
        (
            "http = [{ origin = 'https://a.example', path = 'v1' }]",
            "w.toml:8:59: 'plugin.grants.http.path': 'v1' is no beginning of a URL's path",
        ),
        (
            "edit = { add = ['X:'] }",
            "w.toml:8:28: 'plugin.grants.edit.add': 'X:' is no pattern of header fields",
        ),
        ("edit = { body = 'yes' }", "w.toml:8:28: 'plugin.grants.edit.body' must be true or false"),
        (
            "recipients = ['example.net']",
            "w.toml:8:25: 'plugin.grants.recipients' says which recipients a plugin may add",
        ),
        (
            "recipients = ['*example.net']",
            "w.toml:8:26: 'plugin.grants.recipients': '*example.net' is no domain pattern",
        ),
        ("relay = true", "w.toml:8:12: unknown key 'relay' in [plugin.grants]"),
    ] {
        machine.refuses(&plugin(&format!("grants = {{ {line} }}")), &[told]);
    }
}

#[test]
fn each_mistake_about_conditions_is_told_with_its_place_and_a_hint() {
    let machine = Machine::new();
    for (line, told) in [
        (
            "listener = ['mxx']",
            "w.toml:8:22: no listener is called 'mxx'\n    hint: did you mean 'mx'?",
        ),
        ("client = ['10.0.0.1/8']", "w.toml:8:20: 'plugin.when.client':"),
        (
            "sender-domain = ['*.']",
            "w.toml:8:27: 'plugin.when.sender-domain': '*.' is no domain pattern",
        ),
        (
            "size-from = '2MiB', size-to = '1MiB'",
            "w.toml:8:40: 'plugin.when.size-to' is less than size-from",
        ),
        (
            "header = ['List-Id:']",
            "w.toml:8:20: 'plugin.when.header': 'List-Id:' is no name of a header field",
        ),
        ("tag = { score = 'high' }", "w.toml:8:18: 'plugin.when.tag.score': 'score' is no tag"),
        (
            "tag = { 'guard/score' = '' }",
            "w.toml:8:34: 'plugin.when.tag.guard/score' cannot be empty",
        ),
        (
            "tag = { 'gard/score' = 'x' }",
            "w.toml:8:18: nobody gives the tag 'gard/score': no plugin is called 'gard'\n    hint: did you mean 'guard'?",
        ),
        ("tls = 1", "w.toml:8:16: 'plugin.when.tls' must be true or false"),
    ] {
        machine.refuses(&plugin(&format!("when = {{ {line} }}")), &[told]);
    }
    machine.good(&plugin("when = { listener = ['internal', 'mx'] }"));
}

#[test]
fn each_mistake_about_what_plugins_share_is_told_with_its_place_and_a_hint() {
    let machine = Machine::new();
    machine.protect("keys/main-2026.pem", 0o644);
    machine.protect("srs.secret", 0o644);
    let chmod = format!("hint: chmod 600 {}", machine.at("keys/main-2026.pem").display());
    for (lines, told) in [
        ("[keys.main]\nfile = '/etc/waypost/none.pem'", "w.toml:6:8: cannot use"),
        ("[keys.main]\nfile = '/etc/waypost/customers.table'", "it holds no private key in PEM"),
        ("[keys.main]\nfile = '/etc/waypost/keys/main-2026.pem'", chmod.as_str()),
        ("[keys.main]", "w.toml:5:1: 'keys.main.file' is missing"),
        (
            "[keys.'Main key']\nfile = 'x'",
            "w.toml:5:7: 'keys.Main key': 'Main key' is no name of 1 to 64 lower-case",
        ),
        ("[policy]\nkeep = 0", "w.toml:6:8: 'policy.keep' must be from 1 to 100"),
        ("[policy]\ncompiler = '/none'", "w.toml:6:12: cannot read /none"),
        ("[policy.tables]\nvip = '/none'", "w.toml:6:7: cannot read /none"),
        (
            "[policy.tables]\nvip = 5",
            "w.toml:6:7: 'policy.tables.vip' must be a string in quotes, not an integer",
        ),
        ("[policy.limits.x]\ntokens = 5", "w.toml:5:1: 'policy.limits.x.per' is missing"),
        (
            "[policy.limits.x]\ntokens = 0\nper = '1m'",
            "w.toml:6:10: 'policy.limits.x.tokens' must be from 1 to",
        ),
        (
            "[policy.limits.x]\ntokens = 1\nper = '0s'",
            "w.toml:7:7: 'policy.limits.x.per' cannot be zero",
        ),
        ("[policy.secrets.x]", "w.toml:5:1: 'policy.secrets.x' has neither file nor env"),
        ("[policy.secrets.x]\nfile = 'a'\nenv = 'B'", "w.toml:5:1: both file and env are given"),
        (
            "[policy.secrets.x]\nfile = '/etc/waypost/srs.secret'",
            "w.toml:6:8: everybody on this machine can read",
        ),
    ] {
        machine.refuses(lines, &[told]);
    }
}

#[test]
fn each_mistake_about_hops_and_sources_is_told_with_its_place_and_a_hint() {
    let machine = Machine::new();
    for (lines, told) in [
        ("[policy.hops.x]\ntls = 'verify'", "w.toml:5:1: 'policy.hops.x.via' is missing"),
        ("[policy.hops.x]\nvia = 'mx'", "w.toml:6:7: 'policy.hops.x.via' must be a list of tables"),
        (
            "[policy.hops.x]\nvia = [{ host = 'a.example' }]\nauth = { user = 'u', password-env = 'PATH' }",
            "w.toml:7:8: a password would be sent to a host that may lack TLS",
        ),
        (
            "[policy.sources.x]\naddresses = ['192.0.2.300']",
            "w.toml:6:14: 'policy.sources.x.addresses': '192.0.2.300' is no address of one machine",
        ),
        (
            "[policy.sources.x]\naddresses = ['192.0.2.1', { address = '192.0.2.1' }]",
            "w.toml:6:39: 'policy.sources.x' has 192.0.2.1 twice",
        ),
        ("[policy.sources.x]\naddresses = []", "w.toml:5:1: 'policy.sources.x.addresses' is empty"),
        (
            "[policy.sources.x]\naddresses = [{ address = '192.0.2.1', ehlo = 'a b' }]",
            "w.toml:6:46: 'policy.sources.x.addresses.ehlo':",
        ),
        (
            "[policy.sources.x]\naddresses = [{ address = '192.0.2.1', proxy = 'http://192.0.2.2:80' }]",
            "w.toml:6:47: 'policy.sources.x.addresses.proxy': 'http://192.0.2.2:80' is no proxy",
        ),
        (
            "[policy.sources.x]\naddresses = [{ address = '192.0.2.1', auth = { user = 'u', password-env = 'PATH' } }]",
            "only a SOCKS5 proxy asks for a login",
        ),
        (
            "[[route]]\ndomains = ['x.example']\nsource = 'y'\n[policy.sources.x]\naddresses = ['192.0.2.1']",
            "w.toml:7:10: there is no pool of sources 'y'",
        ),
        (
            "[policy.sources.x]\naddresses = [5]",
            "w.toml:6:14: 'policy.sources.x.addresses' must be a list of strings and tables, not an integer",
        ),
    ] {
        machine.refuses(lines, &[told]);
    }
}

#[test]
fn plugins_have_names_of_their_own_and_one_order() {
    let machine = Machine::new();
    let twice = plugin("") + &plugin("");
    machine.refuses(&twice, &["w.toml:10:8: two plugins are called 'guard'"]);
    machine.refuses(
        "[[plugin]]\nname = 'Guard'\n",
        &["w.toml:6:8: 'plugin.name': 'Guard' is no name", "w.toml:5:1: 'plugin.file' is missing"],
    );
    machine.refuses(
        &plugin("").replace("guard.wasm", "none.wasm"),
        &["w.toml:7:8: cannot read", "none.wasm"],
    );
    let ordered = |order: &str| format!("policy = {{ order = {order} }}\n{}", plugin(""));
    machine.refuses(
        &ordered("['gard', 'guard', 'guard']"),
        &[
            "w.toml:5:21: 'policy.order' names 'gard', and no plugin is called so\n    hint: did you mean 'guard'?",
            "w.toml:5:38: 'policy.order' names 'guard' twice",
        ],
    );
    machine.refuses(&ordered("[]"), &["w.toml:5:20: 'policy.order' leaves out 'guard'"]);
}

/// RFC 5321 §4.5.3.2.
#[test]
fn plugins_together_are_done_before_peers_lose_patience() {
    let machine = Machine::new();
    let many = |count: usize, mode: &str| -> String {
        let slow = |place: usize| {
            plugin(&format!("mode = '{mode}'\nbudget = {{ recipients = {{ wall = '60s' }} }}"))
                .replace("\"guard\"", &format!("\"guard-{place}\""))
        };
        (0..count).map(slow).collect()
    };
    machine.good(&many(4, "enforce"));
    machine.good(&many(6, "shadow"));
    machine.refuses(
        &many(6, "enforce"),
        &["w.toml:29:25: up to this plugin, all together may take 300 seconds at recipients, and peers wait 300"],
    );
}

#[test]
fn what_plugins_may_do_is_said_in_words() {
    let machine = Machine::new();
    let text = words::describe(&machine.good(&documented()));
    for part in [
        "Policy\n  1. guard: its answers count\n",
        "guard.wasm, only with sha256 e3b0c44298fc\n",
        "asked only when the listener is mx; the peer is in 10.0.0.0/8; the sender is in example.org; \
         a recipient is in *.example.net; there is a field List-Id; somebody is logged in; \
         the connection is encrypted; the message has 1.0 MiB or more; the message has 10.0 MiB or \
         less; guard/score is \"high\"\n",
        "may read tables customers; read state reputation; read and write state greylist; take from \
         limits per-sender; use without knowing them the secrets api-token; know the secrets srs; \
         have messages signed with main-2026; ask the DNS, 20 questions a call; \
         ask https://api.example/v1/ by POST\n",
        "may change: add fields *\n",
        "when it fails at recipients: mail goes on without it\n",
        "when it fails at message: the message is taken and held\n",
        "  2. rewrite: shadow, asked aside about 10% of all, its answers do not count\n",
        "may change: add fields X-*; remove fields Subject; the sender; the recipients; the body\n",
    ] {
        assert!(text.contains(part), "no «{part}» in\n{text}");
    }
    assert!(!text.contains("rewrite may add recipients"), "its answers do not count:\n{text}");
    let bare = words::describe(&machine.good(""));
    assert!(bare.contains("Policy\n  no plugin is asked\n"), "{bare}");
}

#[test]
fn what_widens_relaying_is_told_and_an_open_relay_refused_all_the_same() {
    let machine = Machine::new();
    let granted = |grants: &str| plugin(&format!("grants = {{ {grants} }}"));
    let told = |grants: &str| {
        let text = words::describe(&machine.good(&granted(grants)));
        text.split("\n\n").find(|part| part.starts_with("Who may relay")).unwrap_or("").to_owned()
    };
    let anywhere = "edit = { recipients = true }, recipients = ['*']";
    assert!(
        told(anywhere)
            .ends_with("plugin guard may add recipients anywhere: it can widen who is relayed to")
    );
    let near = told("edit = { recipients = true }, recipients = ['example.net']");
    assert!(near.ends_with("plugin guard may add recipients in example.net, whoever sends"));
    assert!(told("auth = true").ends_with("whom plugin guard logs in: to anybody"));
    assert!(told("accept = true").ends_with("everybody else: only to example.org"));
    let accepting = words::describe(&machine.good(&granted("accept = true, discard = true")));
    assert!(accepting.contains("may accept, so that those after it are not asked; drop mail"));
    let open = format!("{MOVING}{}", granted(anywhere)).replace("[\"example.org\"]", "[\"*\"]");
    let refused =
        Settings::parse(Path::new("w.toml"), &open).expect_err("it was taken").to_string();
    assert!(refused.contains("w.toml:4:") && refused.contains("open relay"), "{refused}");
}

#[test]
fn questions_to_the_web_in_clear_text_are_told() {
    let machine = Machine::new();
    for (origin, clear) in [
        ("http://api.example", true),
        ("http://8.8.8.8", true),
        ("http://127.0.0.1:8080", false),
        ("http://10.1.2.3", false),
        ("http://[fd00::1]", false),
        ("https://api.example", false),
    ] {
        let text = plugin(&format!("grants = {{ http = [{{ origin = '{origin}' }}] }}"));
        let told = words::describe(&machine.good(&text));
        assert!(told.contains(&format!("ask {origin} by GET")), "{told}");
        assert_eq!(told.contains("IN CLEAR TEXT"), clear, "{told}");
    }
}

#[test]
fn secrets_of_policy_are_never_shown() {
    let settings = format!("{:?}", Machine::new().good(&documented()));
    assert!(!settings.contains("sesame"), "{settings}");
}
