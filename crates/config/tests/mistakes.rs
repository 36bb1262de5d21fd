//! What an operator is told about a configuration: everything, at once, with lines.

#![expect(clippy::expect_used, reason = "helpers of tests fail the test")]

use std::path::Path;

use waypost_config::{Mistakes, Settings, words};

const GOOD: &str = r#"
hostname = "relay.example.org"
[spool]
path = "/var/spool/waypost"
[[listener]]
kind = "relay"
address = "127.0.0.1:2525"
[relay]
networks = ["192.0.2.0/24", "2001:db8::/48"]
domains = ["example.org", "*.example.org"]
[[route]]
domains = ["example.org"]
via = [{ host = "10.0.0.5" }, { host = "backup.internal.example", port = 2525 }]
tls = "never"
"#;

fn load(text: &str) -> Result<Settings, Mistakes> {
    Settings::parse(Path::new("w.toml"), text)
}

fn mistakes(text: &str) -> String {
    load(text).expect_err("the configuration was taken").to_string()
}

#[test]
fn a_good_file_is_taken_and_said_in_words() {
    let settings = load(GOOD).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let text = words::describe(&settings);
    for part in [
        "on 127.0.0.1:2525 (relay-2525)",
        "peers in 192.0.2.0/24, 2001:db8::/48: to anybody",
        "everybody else: only to example.org, *.example.org",
        "example.org: 10.0.0.5:25, else backup.internal.example:2525, never with TLS",
        "every other domain: its mail exchangers (MX), TLS where offered",
        "tried for 5 days",
    ] {
        assert!(text.contains(part), "no «{part}» in\n{text}");
    }
}

#[test]
fn every_mistake_is_told_at_once_with_line_and_column() {
    let text = r#"
hostname = "relay example"
[spool]
pth = "/var/spool/waypost"
[[listener]]
kind = "realy"
address = "127.0.0.1"
[limits]
message-size = "50 elephants"
recipients = 0
errors = "many"
[relay]
networks = ["192.0.2.1/24", 5]
"#;
    let told = mistakes(text);
    for part in [
        "w.toml:2:12: 'hostname':",
        "w.toml:4:1: unknown key 'pth' in [spool]\n    hint: did you mean 'path'?",
        "w.toml:3:1: 'spool.path' is missing",
        "w.toml:6:8: 'listener.kind' cannot be 'realy'\n    hint: one of: relay, submission, submissions",
        "w.toml:7:11: 'listener.address':",
        "w.toml:9:16: 'limits.message-size':",
        "w.toml:10:14: 'limits.recipients' must be from 1 to 1000000",
        "w.toml:11:10: 'limits.errors' must be a whole number, not a string",
        "w.toml:13:13: 'relay.networks':",
        "the network is 192.0.2.0/24",
        "w.toml:13:29: 'relay.networks' must be a list of strings, not an integer",
        "mistakes in the configuration",
    ] {
        assert!(told.contains(part), "no «{part}» in\n{told}");
    }
    assert!(!told.contains("'listener.kind' is missing"), "{told}");
}

#[test]
fn a_listener_that_is_wrong_is_not_called_missing() {
    let said = mistakes(&GOOD.replace("address =", "adress ="));
    assert!(said.contains("unknown key 'adress'") && !said.contains("no listener"), "{said}");
    let listener = "[[listener]]\nkind = \"relay\"\naddress = \"127.0.0.1:2525\"\n";
    let said = mistakes(&GOOD.replace(listener, ""));
    assert!(said.contains("there is no listener, so no mail can come in"), "{said}");
}

#[test]
fn syntax_errors_have_lines_too() {
    let told = mistakes("hostname = relay\n[spool\npath = 5\n");
    assert!(told.contains("w.toml:1:"), "{told}");
    assert!(told.contains("w.toml:2:"), "{told}");
    assert!(!told.contains("is missing"), "{told}");
}

#[test]
fn an_open_relay_is_refused_with_the_lines_that_make_it_one() {
    let networks = r#"networks = ["192.0.2.0/24", "2001:db8::/48"]"#;
    let domains = r#"domains = ["example.org", "*.example.org"]"#;
    for (line, from, to) in [
        (9, networks, r#"networks = ["0.0.0.0/0"]"#),
        (9, networks, r#"networks = ["128.0.0.0/1"]"#),
        (9, networks, r#"networks = ["::/0"]"#),
        (10, domains, r#"domains = ["*"]"#),
        (10, domains, r#"domains = ["*.com"]"#),
    ] {
        let told = mistakes(&GOOD.replace(from, to));
        assert!(told.contains(&format!("w.toml:{line}:")), "{told}");
        assert!(told.contains("open relay"), "{told}");
    }
}

#[test]
fn submission_needs_a_certificate_and_users() {
    let told = mistakes(&GOOD.replace(r#"kind = "relay""#, r#"kind = "submission""#));
    assert!(told.contains("there is no certificate"), "{told}");
    assert!(told.contains("nobody could log in"), "{told}");
}

#[test]
fn routes_that_cannot_be_taken_or_would_leak_a_password_are_mistakes() {
    let text = format!(
        "{GOOD}[[route]]\ndomains = [\"*\"]\nvia = [{{ host = \"smtp.example.net\" }}]\n\
         auth = {{ user = \"u\", password-env = \"WAYPOST_TEST_ABSENT\" }}\n\
         [[route]]\ndomains = [\"late.example\"]\n"
    );
    let told = mistakes(&text);
    assert!(told.contains("a password would be sent to a host that may lack TLS"), "{told}");
    assert!(told.contains("WAYPOST_TEST_ABSENT is not set"), "{told}");
    assert!(told.contains("this route for late.example can never be taken"), "{told}");
}

#[test]
fn a_login_is_called_by_user_and_hosts_whatever_the_order_of_routes() {
    let route = |domain: &str, host: &str| {
        format!(
            "[[route]]\ndomains = [\"{domain}\"]\nvia = [{{ host = \"{host}\" }}]\ntls = \"verify\"\n\
             auth = {{ user = \"u\", password-env = \"PATH\" }}\n"
        )
    };
    let (one, two) = (route("one.example", "smtp.one.example"), route("*", "smtp.two.example"));
    let names = |text: String| {
        let settings = load(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let find = |domain: &str| {
            let domain = waypost_smtp::Domain::parse(domain).expect("a domain");
            settings.reload.routing.route(&domain, waypost_mail::MessageId(1)).credentials
        };
        (find("one.example"), settings.reload.credentials.len())
    };
    let (before, _) = names(format!("{GOOD}{one}{two}"));
    let (after, count) =
        names(format!("{GOOD}{}{one}{two}", route("new.example", "smtp.new.example")));
    assert_eq!((before, count), (after, 3));
}

#[test]
fn routes_share_refuse_discard_and_store() {
    let routes = r#"
[[route]]
domains = ["shared.example"]
via = [{ host = "c.example", priority = 9 }, { host = "a.example", weight = 3 }, { host = "b.example" }]
[[route]]
domains = ["left.example"]
fail = "550 5.1.2 We have left"
[[route]]
domains = ["hole.example"]
discard = true
[[route]]
domains = ["store.example"]
via = [{ host = "10.0.0.9", lmtp = true }]
"#;
    let settings = load(&format!("{GOOD}{routes}")).unwrap_or_else(|told| panic!("{told}"));
    let text = words::describe(&settings);
    for part in [
        "shared.example: a.example:25 ×3 or b.example:25 ×1, else c.example:25, TLS where offered",
        "left.example: refused: 550 5.1.2 We have left\n",
        "hole.example: taken and thrown away\n",
        "store.example: lmtp:10.0.0.9:24, TLS where offered",
    ] {
        assert!(text.contains(part), "no «{part}» in\n{text}");
    }
    for (lines, told_of) in [
        ("fail = \"450 4.1.2 Later\"", "'route.fail': '450 4.1.2 Later' does not refuse for good"),
        ("fail = \"550\"", "'route.fail': '550' does not refuse for good"),
        ("fail = \"550 5.1.2 No\"\ndiscard = true", "a route has one of via, fail and discard"),
        ("discard = true\nvia = \"mx\"", "a route has one of via, fail and discard"),
        (
            "via = [{ host = \"a.example\", weight = 0 }]",
            "'route.via.weight' must be from 1 to 1000",
        ),
        ("via = [{ host = \"a.example\", lmtp = true, port = 25 }]", "port 25 (RFC 2033 §5)"),
        ("via = [{ host = \"a.example\", lmtp = true, implicit-tls = true }]", "LMTP has no port"),
    ] {
        let told = mistakes(&format!("{GOOD}[[route]]\ndomains = [\"x.example\"]\n{lines}\n"));
        assert!(told.contains(told_of), "no «{told_of}» in\n{told}");
    }
}

#[test]
fn values_that_would_stop_all_mail_are_mistakes() {
    for (line, told_of) in [
        ("[limits]\nmessage-size = \"0\"\n", "'limits.message-size' cannot be less than 64KiB"),
        ("[limits]\ncommand-timeout = \"0s\"\n", "'limits.command-timeout' cannot be zero"),
        ("[queue]\nlifetime = \"0s\"\n", "'queue.lifetime' cannot be zero"),
        ("[dns]\ntimeout = \"0s\"\n", "'dns.timeout' cannot be zero"),
        ("[dns]\ntrust-anchor = \"/nonexistent\"\n", "/nonexistent"),
        ("[process]\nuser = \"nobody-of-that-name\"\n", "there is no user"),
    ] {
        let told = mistakes(&format!("{GOOD}{line}"));
        assert!(told.contains(told_of), "no «{told_of}» in\n{told}");
    }
}

#[test]
fn a_password_that_everybody_can_read_is_refused_and_never_shown() {
    use std::os::unix::fs::PermissionsExt;
    let file = std::env::temp_dir().join(format!("waypost-password-{}", std::process::id()));
    std::fs::write(&file, "open secret").expect("a file");
    let text = format!(
        "{GOOD}[[route]]\ndomains = [\"*\"]\nvia = [{{ host = \"smtp.example.net\" }}]\n\
         tls = \"verify\"\nauth = {{ user = \"u\", password-file = \"{}\" }}\n",
        file.display()
    );
    let load_with = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
        load(&text).map(|settings| format!("{settings:?}")).map_err(|mistakes| mistakes.to_string())
    };
    let (refused, taken) = (load_with(0o644), load_with(0o600));
    std::fs::remove_file(&file).expect("the file goes");
    let told = refused.expect_err("it was taken");
    assert!(told.contains("everybody on this machine can read"), "{told}");
    let settings = taken.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(!told.contains("open secret") && !settings.contains("open secret"));
}

#[test]
fn an_absent_file_is_a_clear_mistake() {
    let told = Settings::load(Path::new("/nonexistent/w.toml")).unwrap_err().to_string();
    assert!(told.starts_with("/nonexistent/w.toml: cannot read the configuration"), "{told}");
}

#[test]
fn classes_of_mail_are_read_whole() {
    let text = format!(
        "{GOOD}[queue]\ntenant = \"sender-domain\"\n[[queue.class]]\nname = \"night\"\nmatch = \"sender:*@n.example\"\n\
         first-retry = \"15m\"\nlifetime = \"2d\"\ndelay-notices = [\"1h\", \"1d\"]\nweight = 3\nrate = \"60/1m\"\nwindows = [\"daily 22:00-06:00 +01:00\"]\n"
    );
    let settings = load(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let queue = &settings.startup.queue;
    let [class] = &queue.classes[..] else { panic!("{queue:?}") };
    let minutes = |minutes: u64| std::time::Duration::from_secs(60 * minutes);
    assert_eq!((class.name.as_str(), class.weight, class.lifetime), ("night", 3, minutes(2880)));
    assert_eq!((class.retry.first, class.retry.max), (minutes(15), minutes(60)));
    assert_eq!(class.rate.map(|rate| (rate.count, rate.per)), Some((60, minutes(1))));
    assert_eq!((class.windows[0].from, class.windows[0].until), (1320, 360));
    assert_eq!(class.delay_notices, [minutes(60), minutes(1440)]);
    assert_eq!(queue.tenancy, waypost_queue::Tenancy::SenderDomain);
    let said = "night: sender:*@n.example; tried for 2 days, first again after 15 minutes; weight 3; \
                at most 60 attempts in 60 seconds; only at certain times";
    assert!(words::describe(&settings).contains(said), "{}", words::describe(&settings));
}

#[test]
fn curves_are_what_is_written_and_a_class_has_its_own() {
    let text = format!(
        "{GOOD}\n[queue]\nfirst-retry = \"1m\"\nretry-factor = 3\nmax-retry = \"20m\"\nretry-jitter = 0\n\
         [[queue.class]]\nname = \"list\"\nretries = [\"10s\", \"5m\"]\nretry-jitter = 0.5\n\
         [[queue.class]]\nname = \"as-usual\"\n"
    );
    let settings = load(&text).unwrap();
    let seconds = std::time::Duration::from_secs;
    let queue = &settings.startup.queue;
    for curve in [&queue.retry, &queue.classes[1].retry] {
        assert_eq!((curve.first, curve.max), (seconds(60), seconds(1200)));
        assert_eq!((curve.factor, curve.jitter), (3.0, 0.0));
    }
    let list = &queue.classes[0].retry;
    assert_eq!((&list.steps, list.jitter), (&vec![seconds(10), seconds(300)], 0.5));
    let text = format!(
        "{GOOD}\n[queue]\nretries = [\"1m\"]\nretry-factor = 0.5\nretry-jitter = 2\nmax-retry = \"1h\"\n\
         [[queue.class]]\nname = \"a\"\nretries = []\n"
    );
    let told = mistakes(&text);
    for part in [
        "'queue.retry-factor' must be from 1 to 100",
        "'queue.retry-jitter' must be from 0 to 1",
        "'queue.max-retry' has no meaning beside 'queue.retries'",
        "'queue.class.retries' needs waits longer than nothing",
    ] {
        assert!(told.contains(part), "no «{part}» in\n{told}");
    }
}

#[test]
fn mistakes_in_classes_are_told() {
    let text = format!(
        "{GOOD}[[queue.class]]\nname = \"a\"\nmatch = \"sender:x agee>2h\"\nrate = \"fast\"\nweight = 0\nwindows = [\"noon\"]\n\
         [[queue.class]]\nname = \"b\"\nmatch = \"domain:x.example\"\n[[queue.class]]\nname = \"b\"\n\
         [[queue.class]]\nname = \"default\"\nmatch = \"user:x\"\nfirst-retry = \"2h\"\nmax-retry = \"1h\"\n"
    );
    let told = mistakes(&text);
    for part in [
        "column 10: unknown key 'agee': did you mean 'age'?",
        "'fast' is no rate",
        "'queue.class.weight' must be from 1 to 1000",
        "'noon' is no time of the week",
        "a queue class cannot go by 'domain'",
        "two queue classes are called 'b'",
        "the default class cannot choose its mail",
        "is shorter than 'queue.class.first-retry'",
    ] {
        assert!(told.contains(part), "no «{part}» in\n{told}");
    }
}

#[test]
fn how_users_log_in_is_held_to_rules() {
    let text = format!(
        "{GOOD}\n[auth]\nsenders = \"all\"\n[[auth.sender]]\nusers = [\"a\"]\n\
         may-send-as = [\"alice\"]\n[auth.failures]\ndelay = \"5m\"\nmax-delay = \"3m\"\n\
         ban-after = 5000000\nnever-ban = [\"here\"]\n"
    );
    let told = mistakes(&text);
    for part in [
        "'auth.senders' cannot be 'all'",
        "'auth.sender.may-send-as': 'alice' is no pattern of senders",
        "'auth.failures.max-delay' is shorter than 'auth.failures.delay'",
        "'auth.failures.max-delay' is too long",
        "'auth.failures.ban-after' must be from 0 to 1000000",
        "'auth.failures.never-ban': 'here' is no network",
    ] {
        assert!(told.contains(part), "no «{part}» in\n{told}");
    }
}

#[test]
fn who_vouches_for_tokens_must_be_clear_and_safe() {
    let told = |lines: &str| mistakes(&format!("{GOOD}\n[auth.oauth]\n{lines}\n"));
    for (lines, part) in [
        ("", "'auth.oauth' names not exactly one of introspection, keys-file and keys-url"),
        ("introspection = \"http://id.example/\"", "is no URL that a secret may be sent to"),
        ("introspection = \"https://u@id.example/\"", "is no URL that a secret may be sent to"),
        ("introspection = \"https://id.example/\"", "'auth.oauth.client-id' is missing"),
        ("keys-url = \"https://id.example/\"", "'auth.oauth.algorithms' is missing"),
        (
            "keys-url = \"https://id.example/\"\nalgorithms = [\"none\"]",
            "'none' is no algorithm that is taken here",
        ),
        (
            "keys-url = \"https://id.example/\"\nalgorithms = [\"RS256\"]\nissuer = \"me\"",
            "does not say who made them for whom",
        ),
        (
            "keys-file = \"/nonexistent\"\nalgorithms = [\"RS256\"]\nissuer = \"me\"\n\
             audience = [\"you\"]",
            "/nonexistent cannot be used",
        ),
    ] {
        let told = told(lines);
        assert!(told.contains(part), "no «{part}» in\n{told}");
    }
}

#[test]
fn certificates_are_somebody_s_only_where_they_are_asked_for() {
    let rule = "[[auth.certificate]]\ncertificate = \"a.example\"\nuser = \"a b\"\n";
    let told = mistakes(&format!("{GOOD}\n{rule}"));
    assert!(told.contains("'a b' is no name of a user"), "{told}");
    let told = mistakes(&format!("{GOOD}\n[auth]\ncertificate-address = true\n"));
    assert!(told.contains("no listener asks for one"), "{told}");
}

#[test]
fn a_listener_can_demand_the_extended_master_secret() {
    let demanded = GOOD.replace(
        "address = \"127.0.0.1:2525\"\n",
        "address = \"127.0.0.1:2525\"\ntls = { extended-master-secret = true }\n",
    );
    let demands = |text: &str| {
        let settings = load(text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        settings.reload.inbound.doors["relay-2525"].tls.extended_master_secret
    };
    assert!(demands(&demanded) && !demands(GOOD));
}

#[test]
fn submission_needs_somebody_who_can_log_in_and_one_is_enough() {
    let door = "[[listener]]\nkind = \"submission\"\naddress = \"127.0.0.1:587\"\n";
    let nobody = "nobody could log in";
    assert!(mistakes(&format!("{GOOD}{door}")).contains(nobody));
    for somebody in [
        "[users]\nfile = \"/nonexistent\"\n",
        "[auth.oauth]\nintrospection = \"https://id.example/\"\nclient-id = \"x\"\n\
         client-secret-env = \"NO_SUCH_VARIABLE\"\n",
        "[[auth.certificate]]\ncertificate = \"a.example\"\nuser = \"a\"\n",
        "[[plugin]]\nname = \"p\"\nfile = \"/nonexistent\"\n[plugin.grants]\nauth = true\n",
    ] {
        let told = mistakes(&format!("{GOOD}{door}{somebody}"));
        assert!(told.contains("which need TLS") && !told.contains(nobody), "{told}");
    }
}

#[test]
fn what_is_special_at_a_listener_is_held_against_the_rest() {
    let text = GOOD.replace(
        "address = \"127.0.0.1:2525\"",
        r#"address = "127.0.0.1:2525"
tls = { oldest = "1.1", ciphers = ["TLS_RSA_WITH_RC4_128_SHA"], min = 1 }
client-certificates = { mode = "ask", fingerprints = ["sha256:00"] }
proxy = { networks = ["0.0.0.0/0"], others = "believe" }
xclient = { login = true }"#,
    );
    let text = text.replace("[relay]", "[relay]\ncertificates = [\"CN=relay\"]");
    let said = mistakes(&text);
    for part in [
        "'listener.tls.oldest' cannot be '1.1'",
        "unknown key 'min' in [listener.tls]",
        "'sha256:00' is no SHA-256 fingerprint",
        "0.0.0.0/0 would let strangers say who they are",
        "'listener.proxy.others' cannot be 'believe'",
        "'listener.xclient.networks' is missing",
        "'CN=relay' is neither a fingerprint",
        "there is no [[tls.certificate]]",
    ] {
        assert!(said.contains(part), "no «{part}» in\n{said}");
    }
    let lines = |more: &str| GOOD.replace("[relay]", &format!("{more}\n[relay]"));
    let said = mistakes(&lines("tls = { ciphers = [\"TLS_RSA_WITH_RC4_128_SHA\"] }"));
    assert!(said.contains("'TLS_RSA_WITH_RC4_128_SHA' is no cipher suite"), "{said}");
    let said = mistakes(&lines(
        "tls = { oldest = \"1.3\", ciphers = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"] }",
    ));
    assert!(said.contains("none of the cipher suites is of a version"), "{said}");
    let said = mistakes(&GOOD.replace("[relay]", "[relay]\ncertificates = [\"app.example\"]"));
    assert!(said.contains("no listener asks for a certificate"), "{said}");
    let said = mistakes(&lines("[tls]\nticket-rotation = \"7h\""));
    assert!(said.contains("'tls.ticket-rotation' must be from 1m to 6h"), "{said}");
}

#[test]
fn who_speaks_for_others_is_said_in_words() {
    let text = GOOD.replace(
        "[relay]",
        "proxy = { networks = [\"192.0.2.10\"] }\nxclient = { networks = [\"192.0.2.11\"], login = true }\n[relay]",
    );
    let settings = load(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let said = words::describe(&settings);
    for part in [
        "192.0.2.10/32 must say by the PROXY protocol for whom they speak; others are refused",
        "192.0.2.11/32 may say by XCLIENT for whom they speak, and who is logged in",
    ] {
        assert!(said.contains(part), "no «{part}» in\n{said}");
    }
}

#[test]
fn a_route_says_what_is_converted() {
    let text = format!(
        "{GOOD}[[route]]\ndomains = [\"a.example\"]\nconvert = \"always\"\n\
         [[route]]\ndomains = [\"b.example\"]\nconvert = \"never\"\n"
    );
    let settings = load(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let convert = |domain: &str| {
        let domain = waypost_smtp::Domain::parse(domain).expect("a domain");
        settings.reload.routing.route(&domain, waypost_mail::MessageId(1)).convert
    };
    assert_eq!(convert("a.example"), waypost_mail::Convert::Always);
    assert_eq!(convert("b.example"), waypost_mail::Convert::Never);
    assert_eq!(convert("c.example"), waypost_mail::Convert::Unsigned);
    let wrong = text.replace("\"always\"", "\"sometimes\"");
    let mistakes = load(&wrong).expect_err("no such word").to_string();
    assert!(mistakes.contains("'route.convert' cannot be 'sometimes'"), "{mistakes}");
    assert!(mistakes.contains("one of: never, unsigned, always"), "{mistakes}");
}

#[test]
fn what_recipients_publish_about_tls_counts_unless_a_route_says_otherwise() {
    let text = format!(
        "{GOOD}[[route]]\ndomains = [\"odd.example\"]\ndane = false\nmta-sts = false\n\
         [[route]]\ndomains = [\"named.example\"]\nvia = [{{ host = \"mx.named.example\" }}]\ndane = true\n\
         [delivery]\nmta-sts = false\n\
         [tls-reports]\nfrom = \"tls@example.org\"\norganization = \"Example\"\n"
    );
    let settings = load(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let heed = |domain: &str| {
        let domain = waypost_smtp::Domain::parse(domain).expect("a domain");
        let heed = settings.reload.routing.route(&domain, waypost_mail::MessageId(1)).heed;
        (heed.dane, heed.mta_sts)
    };
    assert_eq!(heed("odd.example"), (Some(false), Some(false)));
    assert_eq!(heed("named.example"), (Some(true), None));
    assert_eq!(heed("other.example"), (None, None));
    let delivery = &settings.startup.delivery;
    assert_eq!((delivery.dane, delivery.mta_sts), (true, false));
    let reports = settings.startup.tls_reports.expect("they are sent");
    assert_eq!(
        (reports.organization.as_str(), reports.contact.as_str()),
        ("Example", "tls@example.org")
    );
    assert!(reports.sign.is_none() && load(GOOD).is_ok_and(|s| s.startup.tls_reports.is_none()));
}

#[test]
fn mistakes_about_trust_are_told() {
    for (lines, told_of) in [
        ("tls = \"never\"\ndane = true\n", "'route.dane' is true where 'route.tls' is \"never\""),
        (
            "via = [{ host = \"h\" }]\nmta-sts = true\n",
            "'route.mta-sts' is true where 'route.via' names hosts",
        ),
        (
            "client-certificate = { chain = \"/nowhere/c\", key = \"/nowhere/k\" }\n",
            "'route.client-certificate' is given where 'route.via' names no hosts",
        ),
        (
            "via = [{ host = \"h\" }]\nclient-certificate = { chain = \"/nowhere/c\", key = \"/nowhere/k\" }\n",
            "cannot read /nowhere/c",
        ),
        ("via = [{ host = \"h\" }]\nclient-certificate = { chain = \"/nowhere/c\" }\n", "key"),
    ] {
        let told = mistakes(&format!("{GOOD}[[route]]\ndomains = [\"*\"]\n{lines}"));
        assert!(told.contains(told_of), "{told_of}: {told}");
    }
    for (lines, told_of) in [
        ("organization = \"x\"\n", "from"),
        ("from = \"tls@example.org\"\nkey = \"k\"\n", "only one of 'key' and 'selector'"),
        ("from = \"tls@example.org\"\nkey = \"k\"\nselector = \"s\"\n", "there is no [keys.k]"),
    ] {
        let told = mistakes(&format!("{GOOD}[tls-reports]\n{lines}"));
        assert!(told.contains(told_of), "{told_of}: {told}");
    }
}

#[test]
fn what_is_kept_of_messages_is_read_whole() {
    use waypost_history::Dialogue;
    let settings = load(GOOD).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let usual = settings.startup.history.expect("a history is kept unless it is turned off");
    assert_eq!(usual.directory, Path::new("/var/spool/waypost/history"));
    assert_eq!((usual.size, usual.age.as_secs()), (512 << 20, 14 * 86_400));
    assert_eq!(usual.dialogue, Dialogue::All);
    let given = "[history]\nsize = \"4GiB\"\nage = \"30d\"\ndialogue = \"failures\"\n";
    let settings = load(&format!("{GOOD}{given}")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let said = words::describe(&settings);
    assert!(said.contains("what happened to them, for 30 days and in 4.0 GiB at most"), "{said}");
    let given = settings.startup.history.expect("it is turned on");
    assert_eq!((given.size, given.age.as_secs()), (4 << 30, 30 * 86_400));
    assert_eq!(given.dialogue, Dialogue::Failures);
    let off = load(&format!("{GOOD}[history]\nenabled = false\n"));
    let off = off.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(words::describe(&off).contains("nothing of what happened to them"));
    assert!(off.startup.history.is_none() && off.startup.places.history.is_none());
    let wrong = "[history]\nsize = \"10KiB\"\nage = \"0s\"\ndialogue = \"some\"\nsise = 1\n";
    let told = mistakes(&format!("{GOOD}{wrong}"));
    for part in [
        "'history.size' must be 1MiB or more",
        "'history.age' cannot be zero",
        "'history.dialogue' cannot be 'some'\n    hint: one of: all, failures, none",
        "unknown key 'sise' in [history]\n    hint: did you mean 'size'?",
    ] {
        assert!(told.contains(part), "no «{part}» in\n{told}");
    }
}
