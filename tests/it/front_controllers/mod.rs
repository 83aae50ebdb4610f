//! Real web servers with PHP applications behind the gateway that passes other paths on: whatever spelling their front
//! controllers take for the unlock call, none of them is reached by it but through judgement.
//!
//! `N4N_SEED` asks for other targets.

mod servers;
mod targets;

use std::net::SocketAddr;

use crate::harness::{Call, Gateway, Message, Wire};
use servers::{Site, Style};

/// How many targets each application is asked for.
const TARGETS: usize = 2000;

/// Where the targets begin unless N4N_SEED says otherwise.
const SEED: u64 = 191;

#[test]
fn a_route_behind_a_scripts_name_leads_nowhere() {
    assert_none_leads_to_the_unlock_call(Style::PathInfo);
}

#[test]
fn a_route_in_a_query_leads_nowhere() {
    assert_none_leads_to_the_unlock_call(Style::Query);
}

#[test]
fn a_route_that_a_web_server_rewrites_leads_nowhere() {
    assert_none_leads_to_the_unlock_call(Style::Rewrite);
}

fn assert_none_leads_to_the_unlock_call(style: Style) {
    let seed = std::env::var("N4N_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    println!("N4N_SEED={seed}");
    let targets = targets::from_seed(seed, TARGETS);
    let site = Site::start(style);
    for (server, address) in site.servers() {
        // Without the gateway many of them do.
        let mut direct = Asked::at(address);
        let reached = targets.iter().filter(|target| direct.ask(target).is_unlock()).count();
        println!("{style:?} behind {server}: {reached} of {} lead to the unlock call", targets.len());
        assert!(reached >= TARGETS / 20, "{style:?} behind {server}: {reached} targets prove nothing");

        let gateway = Gateway::before(address).set("policy", "other_paths = \"forward\"").start();
        let mut through = Asked::at(gateway.http());
        let (mut wrong, mut passed) = (Vec::new(), 0);
        for target in &targets {
            let answer = through.ask(target);
            passed += usize::from(answer.was_passed_on());
            if answer.is_unlock() {
                wrong.push(target.as_str());
            }
        }
        let count = wrong.len();
        assert!(wrong.is_empty(), "{style:?} behind {server}: {count} unjudged:\n{}", wrong.join("\n"));
        assert!(passed >= TARGETS / 20, "{style:?} behind {server}: only {passed} passed");

        // And by its own path it is reached, once it has been judged.
        let judged = Answer(Some(gateway.call(&Call::unlock())));
        assert!(judged.is_unlock(), "{style:?} behind {server}: {:?}", judged.0);
    }
}

/// A server that is asked for one target after another.
struct Asked {
    address: SocketAddr,
    wire: Option<Wire>,
}

impl Asked {
    fn at(address: SocketAddr) -> Self {
        Self { address, wire: None }
    }

    fn ask(&mut self, target: &str) -> Answer {
        // Judgement does not let it pass: without a credential, whatever reaches the unlock call is unjudged.
        let call = Call::unlock().path(target).without("api-key").bytes();
        // A connection that was kept may have been closed meanwhile.
        for _ in 0..2 {
            let is_kept = self.wire.is_some();
            let mut wire = self.wire.take().unwrap_or_else(|| Wire::connect(self.address));
            wire.send(&call);
            if let Ok(answer) = wire.try_answer() {
                let ends =
                    answer.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                self.wire = (!ends).then_some(wire);
                return Answer(Some(answer));
            }
            if !is_kept {
                break;
            }
        }
        Answer(None)
    }
}

/// What came back, if anything did.
struct Answer(Option<Message>);

impl Answer {
    /// Which of the application's handlers was reached.
    fn handler(&self) -> Option<String> {
        let answer = self.0.as_ref().filter(|answer| answer.status() == 200)?;
        let body: serde_json::Value = serde_json::from_str(answer.text()).ok()?;
        body["handler"].as_str().map(str::to_owned)
    }

    /// Whether it comes from behind the gateway.
    fn was_passed_on(&self) -> bool {
        self.0.as_ref().is_some_and(|answer| answer.field("Content-Type") != Some("application/problem+json"))
    }

    fn is_unlock(&self) -> bool {
        self.handler().as_deref() == Some("unlock")
    }
}
