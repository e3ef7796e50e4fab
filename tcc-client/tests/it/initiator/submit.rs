//! Transactions submitted at once, and what every request has in common.

use std::time::{Duration, Instant};

use serde_json::json;
use tcc_client::wire::{BranchState, ProblemCode};
use tcc_client::{
    Branch, BuildError, Client, Decision, Failure, Gid, Outcome, Phase, Submission, Wait, new_gid,
};
use tcc_core::answer::Reply;
use tcc_core::{Event, Operation};

use super::stub::{Fault, Stub, says};

const SHORT: Duration = Duration::from_millis(500);

/// Two branches that the coordinator tries.
fn order(gid: &Gid) -> Submission {
    let branches = ["stock", "money"].map(|id| Branch::at(id, format!("http://shop/{id}")));
    Submission::new(gid.clone()).branches(branches).timeout(Duration::from_secs(20))
}

fn tried(branch: &str, reply: Reply) -> Event {
    let branch = Some(branch.parse().unwrap());
    Event::Reply { branch, operation: Operation::Try, reply, random: tcc_core::Random::default() }
}

fn done(reply: &serde_json::Value) -> Reply {
    Reply::Done(Some(serde_json::value::to_raw_value(reply).unwrap().into()))
}

#[tokio::test]
async fn a_submission_returns_the_decision_and_the_replies() {
    let (stub, gid) = (Stub::start().await, new_gid());
    let client = stub.client();
    let (standing, ()) = tokio::join!(client.submit(order(&gid)), async {
        stub.asked("begin").await;
        stub.apply(&gid, tried("stock", done(&json!({"shelf": 7}))));
        stub.apply(&gid, tried("money", Reply::Done(None)));
    });
    let standing = standing.unwrap();
    assert_eq!((standing.decision(), standing.phase()), (Some(Decision::Confirm), Phase::Confirming));
    assert_eq!(standing.branch("stock").unwrap().state, BranchState::Confirming);
    assert_eq!(standing.reply::<serde_json::Value>("stock").unwrap(), Some(json!({"shelf": 7})));
    assert_eq!(standing.reply::<String>("money").unwrap(), None);
    standing.reply::<u32>("stock").unwrap_err();
    // One request, for the answer waits at the coordinator.
    assert_eq!(stub.log(), [format!("begin {gid}")]);
}

#[tokio::test]
async fn a_refused_submission_says_why() {
    let (stub, gid) = (Stub::start().await, new_gid());
    let client = stub.client();
    let (standing, ()) = tokio::join!(client.submit(order(&gid)), async {
        stub.asked("begin").await;
        stub.apply(&gid, tried("stock", Reply::Refused("sold out".to_owned())));
    });
    let standing = standing.unwrap();
    assert_eq!(standing.decision(), Some(Decision::Cancel));
    assert_eq!(standing.reason(), Some("branch stock refused: sold out"));
}

#[tokio::test]
async fn a_wait_that_runs_out_ends_nothing() {
    let (stub, gid) = (Stub::start().await, new_gid());
    let client = stub.client();
    let standing = client.submit(order(&gid).at_most(SHORT)).await.unwrap();
    assert_eq!((standing.decision(), standing.phase()), (None, Phase::Trying));
    let standing = client.wait(&gid, Wait::Decision, SHORT).await.unwrap();
    assert_eq!(standing.decision(), None);
    let stored = client.submit(order(&gid).wait(Wait::Stored)).await.unwrap();
    assert_eq!(stored.phase(), Phase::Trying);
}

/// The whole point of a gid that the client makes before the first request.
#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_gid() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("begin", [Fault::Lost, Fault::Lost]);
    let standing = stub.client().submit(order(&gid).wait(Wait::Stored)).await.unwrap();
    assert_eq!(standing.gid(), &gid);
    assert_eq!(stub.log(), vec![format!("begin {gid}"); 3]);
}

#[tokio::test]
async fn a_silent_coordinator_is_asked_again() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("begin", [Fault::Silent]);
    let client = stub.builder().request_timeout(SHORT).build().unwrap();
    client.submit(order(&gid).wait(Wait::Stored)).await.unwrap();
    assert_eq!(stub.count("begin"), 2);
}

#[tokio::test]
async fn a_coordinator_that_cannot_serve_is_asked_again_when_it_says() {
    let (stub, gid) = (Stub::start().await, new_gid());
    let unavailable = [says(ProblemCode::Unavailable), Fault::Later(503, 0), Fault::Later(429, 1)];
    stub.faults("begin", unavailable);
    let begun = Instant::now();
    stub.client().submit(order(&gid).wait(Wait::Stored)).await.unwrap();
    assert_eq!(stub.count("begin"), 4);
    assert!(begun.elapsed() >= Duration::from_secs(1), "asked again before it was told to");
}

#[tokio::test]
async fn repeats_are_bounded_and_the_outcome_is_told() {
    let bounded = |stub: &Stub| stub.builder().repeat_for(SHORT).build().unwrap();
    for (faults, outcome, repeated) in [
        (vec![says(ProblemCode::Unavailable); 1000], Outcome::Known, true),
        (vec![says(ProblemCode::StoreFull); 1000], Outcome::Known, true),
        (vec![says(ProblemCode::OutcomeUnknown); 1000], Outcome::Unknown, true),
        (vec![Fault::Lost; 1000], Outcome::Unknown, true),
        (vec![Fault::Silent], Outcome::Unknown, false),
        (vec![Fault::Answer(502, json!("<html>")); 1000], Outcome::Unknown, true),
        (vec![says(ProblemCode::Invalid)], Outcome::Known, false),
        (vec![Fault::Answer(403, json!("<html>"))], Outcome::Unknown, false),
        (vec![Fault::Answer(302, json!("<html>"))], Outcome::Unknown, false),
        (vec![Fault::Answer(200, json!({"gid": "another"}))], Outcome::Unknown, false),
        // What a later attempt is refused says nothing of an earlier one…
        (vec![Fault::Lost, says(ProblemCode::Invalid)], Outcome::Unknown, true),
        // …unless it says where the transaction stands.
        (vec![Fault::Lost, says(ProblemCode::AlreadyCancelled)], Outcome::Known, true),
    ] {
        let stub = Stub::start().await;
        let said = format!("{:?}", faults[0]);
        stub.faults("begin", faults);
        let begun = Instant::now();
        let error = bounded(&stub).submit(order(&new_gid()).wait(Wait::Stored)).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10), "{said}");
        assert_eq!(error.outcome(), outcome, "{said}: {error:?}");
        assert_eq!(stub.count("begin") > 1, repeated, "{said}");
        assert_eq!(error.failed().attempts as usize, stub.count("begin"), "{said}");
    }
}

#[tokio::test]
async fn what_never_left_is_known_not_to_have_happened() {
    // A port that was just closed.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let _ = Stub::start().await.client();
    let client = Client::builder(&format!("http://{closed}")).repeat_for(SHORT).build().unwrap();
    let error = client.submit(order(&new_gid())).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Known);
    assert!(matches!(error.failed().failure, Failure::Connect(_)), "{error:?}");
    assert!(error.failed().attempts > 1);

    let stub = Stub::start().await;
    let cyclic = Branch::at("stock", "http://shop/stock?no=base");
    let error = stub.client().submit(Submission::new(new_gid()).branch(cyclic)).await.unwrap_err();
    assert!(matches!(error.failed().failure, Failure::Invalid(_)), "{error:?}");
    assert_eq!((error.outcome(), stub.log().len()), (Outcome::Known, 0));
}

#[tokio::test]
async fn a_gid_is_one_segment_of_the_path() {
    let (stub, gid) = (Stub::start().await, "orders/2026:17".parse::<Gid>().unwrap());
    let client = stub.client();
    client.submit(order(&gid).wait(Wait::Stored)).await.unwrap();
    assert_eq!(client.status(&gid).await.unwrap().gid(), &gid);
    assert_eq!(client.cancel(&gid, "no").await.unwrap().decision(), Some(Decision::Cancel));
    assert_eq!(stub.log()[1..], ["status orders/2026:17", "cancel no"]);
}

/// C3: nothing known is not "it did not happen".
#[tokio::test]
async fn an_unknown_gid_is_unknown() {
    let stub = Stub::start().await;
    let error = stub.client().status(&new_gid()).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Some(ProblemCode::UnknownGid), Outcome::Unknown));
    let error = stub.client().confirm(&new_gid(), []).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Some(ProblemCode::UnknownGid), Outcome::Unknown));
}

#[tokio::test]
async fn an_error_tells_its_causes_once() {
    let (stub, gid) = (Stub::start().await, new_gid());
    stub.faults("begin", [says(ProblemCode::GidReused)]);
    let error = stub.client().submit(order(&gid)).await.unwrap_err();
    let mut told = vec![error.to_string()];
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        told.push(error.to_string());
        cause = error.source();
    }
    assert_eq!(
        told,
        [
            format!("transaction {gid} could not be begun"),
            "attempt 1: the coordinator answered gid-reused, says the test".to_owned(),
        ]
    );
    assert_eq!(error.problem().unwrap().detail, "says the test");
}

#[test]
fn an_address_that_cannot_be_a_coordinators_is_refused() {
    for (address, why) in [
        ("coordinator:7460", "is neither http nor https"),
        ("ftp://coordinator", "is neither http nor https"),
        ("http://coordinator/?x", "must be a host and perhaps a path, nothing else"),
        ("http://ada:secret@coordinator", "holds a user or a password; give a token instead"),
    ] {
        let Err(BuildError::Address(told)) = Client::new(address) else { panic!("{address}") };
        assert_eq!(told, why);
    }
    assert!(matches!(Client::new("no url"), Err(BuildError::Url(_))));
    if cfg!(not(feature = "tls")) {
        assert!(matches!(Client::new("https://coordinator"), Err(BuildError::Address(_))));
    }
    let token = Client::builder("http://coordinator").token("a\nb").build();
    assert!(matches!(token, Err(BuildError::Token)));
}
