//! Where calls may go: X3 to X6.

use serde_json::json;
use tcc_security::coordinator::{COORDINATOR, Coordinator};
use tcc_security::hostile::FORBIDDEN;
use tcc_security::lab;
use tcc_security::participant::{Participant, answer};
use tcc_security::secrets::HEADER;
use tokio::process::Command;

use crate::{begin, confirmed, program, seen, until};

/// Through the API as it runs: every spelling of what is never called, in every field that holds an endpoint.
#[tokio::test]
async fn x3_no_spelling_of_a_forbidden_address_is_taken() {
    let coordinator = Coordinator::start(program(), &[]).await;
    for (i, url) in FORBIDDEN.into_iter().enumerate() {
        for (field, branch) in [
            ("at", json!({"id": "b", "at": url})),
            ("try", json!({"id": "b", "try": url, "cancel": "none"})),
            ("confirm", json!({"id": "b", "confirm": url})),
            ("cancel", json!({"id": "b", "try": "http://127.0.0.1:1/", "cancel": url})),
        ] {
            let gid = format!("x3/{i}/{field}");
            let begun = coordinator.ask("POST", "", Some(&json!({"gid": gid, "branches": [branch]}))).await;
            assert_eq!((begun.status, &begun.json()["code"]), (422, &json!("invalid")), "{field} {url}");
            assert_eq!(coordinator.view(&gid).await.0, 404, "nothing is stored");
        }
        let check = json!({"gid": format!("x3/{i}"), "decider": "initiator", "check": url});
        let begun = coordinator.ask("POST", "", Some(&check)).await;
        assert_eq!((begun.status, &begun.json()["pointer"]), (422, &json!("/check")), "{url}");
    }
    let begun = coordinator.ask("POST", "", Some(&json!({"gid": "x3", "decider": "initiator"}))).await;
    assert_eq!(begun.status, 201);
    for url in FORBIDDEN {
        let branches = json!({"branches": [{"id": "b", "at": url}]});
        let registered = coordinator.ask("POST", "/x3/branches", Some(&branches)).await;
        assert_eq!(registered.status, 422, "{url}");
    }
    assert_eq!(coordinator.view("x3").await.1["branches"], json!([]));
}

#[tokio::test]
async fn x3_an_allow_list_is_kept_in_every_spelling() {
    let participant = Participant::start(|_| answer(200, "", "")).await;
    let port = participant.address().port();
    let allowed = format!("127.0.0.1:{port}");
    let coordinator = Coordinator::start(program(), &["--allow", &allowed]).await;
    for (i, host) in [
        "10.0.0.1",
        "[::1]",
        "127.0.0.2",
        "localhost",
        "127.0.0.1.test",
        "127.1.1",
        "0x7f000002",
        "192.168.0.1",
    ]
    .into_iter()
    .enumerate()
    {
        let begun = coordinator
            .ask("POST", "", Some(&begin(&format!("x3/{i}"), &format!("http://{host}:{port}/"))))
            .await;
        assert_eq!(begun.status, 422, "{host}");
    }
    let other_port = begin("x3/port", "http://127.0.0.1:1/");
    assert_eq!(coordinator.ask("POST", "", Some(&other_port)).await.status, 422);
    for (i, host) in
        ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"].into_iter().enumerate()
    {
        let gid = format!("x3/good/{i}");
        let begun = coordinator.ask("POST", "", Some(&begin(&gid, &format!("http://{host}:{port}/")))).await;
        // A spelling that the list does not have may be refused, but never leads elsewhere.
        assert!([201, 422].contains(&begun.status) && (i > 0 || begun.status == 201), "{host}");
        if begun.status == 201 {
            until(&coordinator, &gid, confirmed).await;
        }
    }
}

/// In a network where names resolve as an attacker likes. The trap at 169.254.169.254 is really there, and so would
/// be every connection to it.
#[tokio::test]
async fn x3_x4_names_that_lead_where_nothing_may_be_called_are_refused_and_what_was_checked_is_called() {
    let found = match lab::run(program(), lab::NAMES).await {
        Ok(found) => found,
        Err(why) => return tcc_tests::skipped(&why),
    };
    let forbidden = [
        "metadata.test",
        "METADATA.test.",
        "both.test",
        "other-way.test",
        "mapped.test",
        "nat64.test",
        "local.test",
        "mixed.test",
        "zero.test",
        "every.test",
        "alias.test",
        "narrow inside.test",
        "named metadata.test",
    ];
    for name in forbidden {
        assert_eq!(found[name], json!(["Trying", "forbidden"]), "{name}: {found}");
    }
    for name in ["good.test", "narrow good.test", "recovers.test"] {
        assert_eq!(found[name][0], "Confirmed", "{name}: {found}");
    }
    assert_eq!(found["unheard-of.test"], json!(["Trying", "dns"]));
    // The try went to the address that was checked; for the confirm the name had another, and it was not made.
    assert_eq!(found["rebinds.test"], json!(["Confirming", "forbidden"]), "{found}");
    assert_eq!([&found["metadata"], &found["inside"], &found["inside after"]], [0, 0, 0], "{found}");
    let asked = found["participant"].to_string();
    for (path, times) in
        [("good/test/try", 2), ("good/test/confirm", 2), ("rebinds/test/try", 1), ("rebinds/test/confirm", 0)]
    {
        assert_eq!(asked.matches(path).count(), times, "{path}: {asked}");
    }
    for name in forbidden {
        assert!(!asked.contains(&format!("{name} ")), "{name}: {asked}");
    }
}

#[tokio::test]
async fn x5_no_redirect_is_followed_and_nothing_is_told_to_where_it_leads() {
    let elsewhere = Participant::trap().await;
    let location = elsewhere.address();
    let participant = Participant::start(move |asked| {
        let status: u16 = asked.path()[1..4].parse().expect("a status in the path");
        answer(
            status,
            &format!("location: http://{location}{}\r\nrefresh: 0; url=http://{location}/\r\n", asked.path()),
            "",
        )
    })
    .await;
    let coordinator = Coordinator::start(program(), &[]).await;
    for status in [300, 301, 302, 303, 305, 307, 308] {
        let (gid, at) = (format!("x5/{status}"), format!("http://{}/{status}", participant.address()));
        let mut begin = begin(&gid, &at);
        begin["branches"][0]["headers"] = json!({"authorization": HEADER});
        assert_eq!(coordinator.ask("POST", "", Some(&begin)).await.status, 201);
        let view = until(&coordinator, &gid, seen).await;
        assert_eq!(view["branches"][0]["seen"], format!("status {status}"));
        assert_eq!(view["phase"], "Trying", "it is unknown, and neither done nor refused");
    }
    assert!(elsewhere.asked().is_empty(), "{:?}", elsewhere.asked());
}

#[tokio::test]
async fn x6_the_environment_makes_no_proxy_of_anybody() {
    let (proxy, participant) = (Participant::trap().await, Participant::start(|_| answer(200, "", "")).await);
    let url = format!("http://{}", proxy.address());
    let mut command = Command::new(program());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, &url);
    }
    command.env("NO_PROXY", "nobody.example").env("REQUEST_METHOD", "").arg(COORDINATOR);
    let coordinator = Coordinator::start_by(&mut command).await;
    let begin = begin("x6", &format!("http://{}/", participant.address()));
    assert_eq!(coordinator.ask("POST", "?wait=end", Some(&begin)).await.status, 201);
    assert_eq!(participant.asked().len(), 2, "try and confirm");
    assert!(proxy.asked().is_empty(), "{:?}", proxy.asked());
}
