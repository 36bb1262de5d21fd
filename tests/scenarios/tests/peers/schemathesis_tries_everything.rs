//! Schemathesis reads the document that describes the door for HTTP, and tries what it allows and what it
//! forbids: no request is a fault of ours, every answer is as the document says.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

use crate::program::run;
use crate::python::python;

/// What no schema can say is not checked: that an address is one, and that the message is legal mail.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,\
    unsupported_method,allow_header_conformance,ignored_auth";

#[tokio::test]
async fn and_the_document_is_true() {
    let upstream = Upstream::new();
    let home = Home::new()
        .set("relay", "domains", "[]")
        .set("auth", "senders", "\"any\"")
        // It shows wrong tokens too, and is not to be shut out for that.
        .set("auth.failures", "never-ban", "[\"127.0.0.0/8\"]")
        .set("auth.failures", "delay", "\"1ms\"")
        .set("auth.failures", "max-delay", "\"1ms\"")
        .door(Door::Http);
    let token = home.token("shop");
    let home = home.tokens().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let document = format!("http://{}/v1/openapi.json", relay.address(Door::Http));
    let url = format!("http://{}", relay.address(Door::Http));
    let token = format!("Authorization: Bearer {token}");
    // It leaves notes where it runs.
    let program = "import os, sys; os.chdir(sys.argv.pop(1)); \
                   from schemathesis.cli import schemathesis; sys.exit(schemathesis())";
    let here = home.path("").display().to_string();
    let mut arguments = vec!["-c", program, &here, "run", &document, "--url", &url];
    arguments.extend(["--header", &token]);
    arguments.extend(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"]);
    // The same requests each time, few enough for some seconds.
    arguments.extend(["--seed", "4711", "--max-examples", "60", "--no-shrink", "--workers", "1"]);
    arguments.extend(["--suppress-health-check", "all", "--warnings", "off", "--no-color"]);
    arguments.extend(["--generation-database", "none"]);
    let ended = run("python3-venv, then cargo xtask setup", &python(), &arguments, "").await;
    assert!(ended.success, "{}", ended.said);
    let before = ended.said.split_once(" generated").map(|(before, _)| before);
    let tried = before.and_then(|before| before.rsplit(' ').next()?.parse::<u32>().ok());
    assert!(tried.is_some_and(|tried| tried > 100), "{}", ended.said);
    relay.stop().await;
}
