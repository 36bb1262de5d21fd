//! Who may ask what: everything over the owner's Unix socket, counters alone over TCP.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waypost_admin::api::{
    Applied, Ban, ChangeRequest, ExplainRequest, Generation, Groups, LiftBans, ListRequest,
    ListSuppressions, Overview, Page, PolicyReload, PolicyRollback, PolicyView, ShowSuppressions,
    StageExplained, SummaryRequest, SuppressionPage, Unsuppress, Verdict, Words,
};
use waypost_admin::{Bound, Client, ClientError, Control, Server};
use waypost_mail::suppression::{Ground, Owner};
use waypost_mail::{MessageId, NextHop, Route, Suppression, SystemClock, Timestamp, TlsLevel};
use waypost_queue::{Field, Queue, Selected, Status};
use waypost_smtp::Domain;
use waypost_spool::MemorySpool;

fn suppression() -> Suppression {
    Suppression {
        target: "bob@example.net".parse().unwrap(),
        owner: Owner::Everybody,
        ground: Ground::Manual,
        since: Timestamp(0),
        expires: None,
        note: String::new(),
    }
}

struct Program;

#[async_trait]
impl Control for Program {
    fn overview(&self) -> Overview {
        Overview {
            version: "1".into(),
            hostname: "relay.example".into(),
            pid: 1,
            started: Timestamp(0),
            draining: false,
            listeners: Vec::new(),
            queue: Status::default(),
        }
    }

    async fn reload(&self) -> Result<String, String> {
        Err("w.toml:1:1: no".into())
    }

    async fn drain(&self) {}

    async fn bounce(&self, _: Selected, _: String) -> Result<Verdict, String> {
        Ok(Verdict::default())
    }

    async fn expire(&self, _: Selected) -> Result<Verdict, String> {
        Ok(Verdict::default())
    }

    fn way(&self, to: &str, _: MessageId, domain: &Domain) -> Result<Route, String> {
        match to {
            "mx" => Ok(Route::new(NextHop::Mx(domain.clone()), TlsLevel::Opportunistic)),
            _ => Err(format!("no way to {to}")),
        }
    }

    fn policy(&self) -> PolicyView {
        PolicyView { generations: vec![generation(1)], plugins: Vec::new() }
    }

    async fn reload_policy(&self, request: PolicyReload) -> Result<Generation, String> {
        match request.canary_percent {
            None => Ok(generation(2)),
            Some(percent) => Err(format!("no trial at {percent} %")),
        }
    }

    async fn rollback_policy(&self, id: Option<u64>) -> Result<Generation, String> {
        id.map(generation).ok_or_else(|| "there is no earlier generation".to_owned())
    }

    fn explain(&self, request: ExplainRequest) -> Result<Vec<StageExplained>, String> {
        Ok(vec![StageExplained { stage: request.client, plugins: Vec::new() }])
    }

    fn bans(&self) -> Vec<Ban> {
        vec![Ban { network: "192.0.2.1/32".into(), since: Timestamp(0), until: Timestamp(1) }]
    }

    async fn lift_bans(&self, request: LiftBans) -> Result<usize, String> {
        request.network.map(|_| 1).ok_or_else(|| "say which".to_owned())
    }

    async fn suppressed(&self, request: ListSuppressions) -> Result<SuppressionPage, String> {
        let (limit, next) = (request.limit.unwrap_or(1000), request.after);
        Ok(SuppressionPage { entries: vec![suppression(); limit.min(1)], next })
    }

    async fn suppressed_for(&self, request: ShowSuppressions) -> Result<Vec<Suppression>, String> {
        let mut found = vec![suppression()];
        found.retain(|entry| entry.target == request.target);
        Ok(found)
    }

    async fn suppress(&self, entries: Vec<Suppression>) -> Result<usize, String> {
        Ok(entries.len())
    }

    async fn unsuppress(&self, request: Unsuppress) -> Result<usize, String> {
        Ok(request.targets.len())
    }

    fn metrics(&self) -> String {
        "a_counter 1\n".into()
    }
}

fn generation(id: u64) -> Generation {
    Generation {
        id,
        state: "current".into(),
        since: Timestamp(0),
        who: "operator".into(),
        plugins: Vec::new(),
    }
}

#[tokio::test]
async fn the_owner_looks_at_policy_and_steers_it() {
    let directory = tempfile::tempdir().unwrap();
    serve(directory.path()).await;
    let client = Client::new(&directory.path().join("admin.sock"));
    let view: PolicyView = client.get("/v1/policy").await.unwrap();
    assert_eq!(view.generations, [generation(1)]);
    let reload = "/v1/policy/reload";
    let loaded: Generation = client.post(reload, &PolicyReload::default()).await.unwrap();
    assert_eq!(loaded.id, 2);
    let trial = PolicyReload { canary_percent: Some(5), canary_seconds: None };
    let refused = client.post::<Generation>(reload, &trial).await.unwrap_err();
    assert_eq!(refused.to_string(), "no trial at 5 %");
    let back = PolicyRollback { id: Some(7) };
    let generation: Generation = client.post("/v1/policy/rollback", &back).await.unwrap();
    assert_eq!(generation.id, 7);
    let request = ExplainRequest { client: "192.0.2.1".into(), ..ExplainRequest::default() };
    let stages: Vec<StageExplained> = client.post("/v1/policy/explain", &request).await.unwrap();
    assert_eq!(stages[0].stage, "192.0.2.1");
}

/// A server in `directory`; answers the TCP address.
async fn serve(directory: &Path) -> std::net::SocketAddr {
    let bound = Bound::bind(&directory.join("admin.sock"), "127.0.0.1:0".parse().ok()).unwrap();
    let address = bound.tcp_address().unwrap();
    let spool = Arc::new(MemorySpool::new());
    let queue = Queue::open(spool, waypost_queue::Config::default(), Arc::new(SystemClock), 1);
    let server = Server::new(queue.await.unwrap(), Arc::new(Program));
    tokio::spawn(server.run(bound));
    address
}

async fn over_tcp(address: std::net::SocketAddr, host: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: 4\r\n\r\nnull"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_owner_asks_over_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    serve(directory.path()).await;
    let socket = directory.path().join("admin.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = Client::new(&socket);
    assert_eq!(client.get::<Overview>("/v1/status").await.unwrap().hostname, "relay.example");
    let all = ChangeRequest { all: true, ..ChangeRequest::default() };
    assert_eq!(client.post::<Applied>("/v1/queue/hold", &all).await.unwrap().messages, 0);
    let nobody_meant = client.post::<Applied>("/v1/queue/delete", &ChangeRequest::default()).await;
    assert!(matches!(nobody_meant, Err(ClientError::Refused(text)) if text.contains("which")));
    let list = ListRequest { selector: "domain:a agee>2h".into(), ..ListRequest::default() };
    let mistake = client.post::<Page>("/v1/queue/list", &list).await.unwrap_err().to_string();
    let marked = "domain:a agee>2h\n         ^ unknown key 'agee': did you mean 'age'?";
    assert!(mistake.contains(marked), "{mistake}");
    let summary = SummaryRequest { selector: String::new(), by: Field::Tenant, limit: None };
    let groups = client.post::<Groups>("/v1/queue/summary", &summary).await.unwrap();
    assert_eq!(groups, Groups { by: Field::Tenant, groups: Vec::new() });
    let nowhere = ChangeRequest { to: "the moon".into(), ..all };
    let refused = client.post::<Applied>("/v1/queue/reroute", &nowhere).await.unwrap_err();
    assert_eq!(refused.to_string(), "no way to the moon");
    let refused = client.post::<Words>("/v1/reload", &()).await.unwrap_err();
    assert_eq!(refused.to_string(), "w.toml:1:1: no");
}

#[tokio::test]
async fn tcp_shows_counters_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let address = serve(directory.path()).await;
    let shown = over_tcp(address, &address.to_string(), "GET /metrics").await;
    assert!(shown.starts_with("HTTP/1.1 200") && shown.contains("a_counter 1"), "{shown}");
    for request in ["POST /v1/drain", "POST /v1/queue/delete", "GET /v1/status"] {
        let answer = over_tcp(address, &address.to_string(), request).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{request}: {answer}");
    }
    let rebound = over_tcp(address, "evil.example", "GET /metrics").await;
    assert!(rebound.starts_with("HTTP/1.1 421"), "{rebound}");
}

#[tokio::test]
async fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    std::fs::write(&path, "precious").unwrap();
    let error = Bound::bind(&path, None).unwrap_err().to_string();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn without_a_program_the_client_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(&directory.path().join("absent.sock"));
    let error = client.get::<Overview>("/v1/status").await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)), "{error}");
}
