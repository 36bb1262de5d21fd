//! The upstream says 421, 450 or 550, at each phase.

use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::Why;
use waypost_smtp::Phase;

use crate::way::{BOB, Way};

const PHASES: [Phase; 6] =
    [Phase::Greeting, Phase::Ehlo, Phase::Mail, Phase::Rcpt, Phase::Data, Phase::Eod];

async fn refused(phase: Phase, words: &str) -> (Way, Upstream, String) {
    let say = Act::Say(words.to_owned());
    // EHLO that is refused may be followed by HELO, which is refused too.
    let upstream = match phase {
        Phase::Ehlo => Upstream::new().on(phase, say),
        _ => Upstream::new().once(phase, say),
    };
    let way = Way::patiently_to(&upstream).await;
    let id = way.send().await;
    (way, upstream, id)
}

#[tokio::test]
async fn for_now_and_gets_it_later() {
    for words in ["421 4.3.2 going down", "450 4.2.1 busy"] {
        for phase in PHASES {
            let (way, upstream, id) = refused(phase, words).await;
            let why = way.deferred(&id).await;
            let Why::Refused { phase: at, reply, .. } = &why else {
                panic!("{words} {phase}: {why}")
            };
            assert_eq!((*at, reply.code.get().to_string().as_str()), (phase, &words[..3]));
            assert!(upstream.mails().is_empty());
            if phase != Phase::Ehlo {
                way.retry(&id).await;
                way.settled(&id).await;
                assert_eq!(upstream.mails().len(), 1, "{words} {phase}");
            }
            assert!(way.alice.mails().is_empty(), "{words} {phase}");
            way.relay.stop().await;
        }
    }
}

#[tokio::test]
async fn for_good_and_the_sender_is_told() {
    for phase in PHASES {
        let (way, upstream, id) = refused(phase, "550 5.7.1 we do not want it").await;
        way.settled(&id).await;
        assert!(upstream.mails().is_empty(), "{phase}");
        let notice = way.notices(1).await.remove(0);
        assert!(
            notice.content.contains("Diagnostic-Code: smtp; 550 5.7.1 we do not want it"),
            "{phase}"
        );
        assert!(notice.content.contains(&format!("Final-Recipient: rfc822; {BOB}")), "{phase}");
        way.relay.stop().await;
    }
}
