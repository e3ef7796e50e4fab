//! Lists of transactions: filters, pages, and what is wrong in a request for one.

use std::time::Duration;

use serde_json::{Value, json};
use tcc_core::store::{Store, Write, Written};
use tcc_server::limits;

use crate::asking::Api;
use crate::scripted::{BOUND, Bench, Script, gid, order, status};

/// Four transactions: `early/1` and `late/1` confirmed, `late/2` confirming and in need of a human, `late/3`
/// trying.
async fn four(bench: &Bench) {
    for gid in ["early/1", "late/1"] {
        let known = bench.begin(&order(gid)).await.unwrap();
        bench.ends(known).await;
    }
    let stays =
        r#"{"gid":"late/2","branches":[{"id":"mail","confirm":"t:lost","retry":{"first_ms":60000}}]}"#;
    bench.begin(stays).await.unwrap();
    attention(bench, "late/2").await;
    bench.begin(r#"{"gid":"late/3","decider":"initiator"}"#).await.unwrap();
}

async fn attention(bench: &Bench, name: &str) {
    let waiting = async {
        while !bench.store.load(&gid(name)).await.unwrap().unwrap().attention {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(BOUND, waiting).await.expect("it calls for a human");
}

fn participants() -> Script {
    Script::new(async |outgoing| match outgoing.call.endpoint.as_str() {
        "t:lost" => status(404),
        _ => status(200),
    })
}

fn gids(list: &Value) -> Vec<&str> {
    list["transactions"].as_array().unwrap().iter().map(|one| one["gid"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn each_filter_of_a_list_holds_and_they_combine() {
    let bench = Bench::new(&participants());
    let mut api = Api::of(&bench);
    four(&bench).await;
    let (_, all) = api.ask("GET", "", None).await;
    let begun: Vec<i64> =
        all["transactions"].as_array().unwrap().iter().map(|one| one["begun"].as_i64().unwrap()).collect();
    for (query, expected) in [
        ("".to_owned(), &["early/1", "late/1", "late/2", "late/3"][..]),
        ("?phase=Confirmed".into(), &["early/1", "late/1"]),
        ("?phase=Trying".into(), &["late/3"]),
        ("?phase=Abandoned".into(), &[]),
        ("?attention=true".into(), &["late/2"]),
        ("?attention=false".into(), &["early/1", "late/1", "late/3"]),
        ("?prefix=late%2F".into(), &["late/1", "late/2", "late/3"]),
        ("?prefix=".into(), &["early/1", "late/1", "late/2", "late/3"]),
        ("?prefix=late&phase=Confirmed".into(), &["late/1"]),
        ("?destination=t:stock".into(), &["early/1", "late/1"]),
        ("?destination=t:lost&attention=true".into(), &["late/2"]),
        ("?destination=t:stock&prefix=late".into(), &["late/1"]),
        ("?destination=t:nobody".into(), &[]),
        (format!("?created_from={}", begun[0]), &["early/1", "late/1", "late/2", "late/3"]),
        (format!("?created_from={}", begun[3] + 1), &[]),
        (format!("?created_before={}", begun[0]), &[]),
        (format!("?created_before={}&prefix=early", begun[3] + 1), &["early/1"]),
    ] {
        let (status, list) = api.ask("GET", &query, None).await;
        assert_eq!((status.as_u16(), &*gids(&list)), (200, expected), "{query}");
        assert_eq!(list.get("next"), None, "{query}");
    }
}

#[tokio::test]
async fn a_list_tells_how_each_transaction_stands() {
    let bench = Bench::new(&participants());
    let mut api = Api::of(&bench);
    four(&bench).await;
    bench.pass(Duration::from_secs(7));
    let (_, mut list) = api.ask("GET", "", None).await;
    for one in list["transactions"].as_array_mut().unwrap() {
        let (_, view) =
            api.ask("GET", &format!("/{}", one["gid"].as_str().unwrap().replace('/', "%2F")), None).await;
        for told in ["phase", "decision", "attention", "begun"] {
            assert_eq!(one.get(told), view.get(told), "{told} of {one}");
        }
        let age = one["age_ms"].as_u64().unwrap();
        assert!((7000..=view["age_ms"].as_u64().unwrap()).contains(&age), "{one}");
    }
    assert_eq!(list["transactions"][0]["branches"], json!({"confirmed": 2}));
    assert_eq!(list["transactions"][2]["branches"], json!({"confirming": 1}));
    assert!(list["transactions"][2]["attention"].as_str().unwrap().contains("404"), "{list}");
    assert_eq!(list["transactions"][3].get("branches"), None);
}

#[tokio::test]
async fn pages_of_a_list_are_complete_and_without_repeats() {
    let bench = Bench::new(&participants());
    let mut api = Api::of(&bench);
    for i in 0..limits::LIST_PAGE + 3 {
        bench.begin(&format!(r#"{{"gid":"p/{i}","decider":"initiator"}}"#)).await.unwrap();
    }
    let (_, first) = api.ask("GET", "", None).await;
    assert_eq!(gids(&first).len(), limits::LIST_PAGE);
    let (_, second) = api.ask("GET", &format!("?page={}", first["next"].as_str().unwrap()), None).await;
    assert_eq!((gids(&second), second.get("next")), (vec!["p/50", "p/51", "p/52"], None));

    let (mut all, mut page) = (Vec::new(), String::new());
    loop {
        let (status, list) = api.ask("GET", &format!("?phase=Trying&limit=4{page}"), None).await;
        assert!(status.is_success() && gids(&list).len() <= 4, "{list}");
        all.extend(gids(&list).into_iter().map(str::to_owned));
        let Some(next) = list["next"].as_str() else { break };
        page = format!("&page={next}");
    }
    let expected: Vec<String> = (0..limits::LIST_PAGE + 3).map(|i| format!("p/{i}")).collect();
    assert_eq!(all, expected);
}

/// No index knows of destinations, so that a page may have looked at much and found little.
#[tokio::test]
async fn a_list_by_destination_is_complete_however_much_lies_between() {
    let bench = Bench::new(&participants());
    let mut api = Api::of(&bench);
    let calls = |i: usize| i % 500 < 3;
    let expected: Vec<String> =
        (0..limits::LIST_LOOKED_AT + 10).filter(|i| calls(*i)).map(|i| format!("p/{i}")).collect();
    for i in 0..limits::LIST_LOOKED_AT + 10 {
        let branches = if calls(i) { r#"{"id":"a","at":"t:a"}"# } else { "" };
        let begin = format!(r#"{{"gid":"p/{i}","decider":"initiator","branches":[{branches}]}}"#);
        bench.begin(&begin).await.unwrap();
    }
    for (limit, pages) in [(1, 10), (2, 6), (200, 2)] {
        let (mut all, mut asked, mut page) = (Vec::new(), 0, String::new());
        loop {
            let (status, list) = api.ask("GET", &format!("?destination=t:a&limit={limit}{page}"), None).await;
            assert!(status.is_success() && gids(&list).len() <= limit, "{list}");
            all.extend(gids(&list).into_iter().map(str::to_owned));
            asked += 1;
            let Some(next) = list["next"].as_str() else { break };
            page = format!("&page={next}");
        }
        assert_eq!(all, expected);
        assert!(asked <= pages, "{asked} pages of {limit}");
    }
}

#[tokio::test]
async fn a_request_for_a_list_that_is_wrong_is_told_where() {
    let bench = Bench::new(&participants());
    let mut api = Api::of(&bench);
    for i in 0..3 {
        bench.begin(&format!(r#"{{"gid":"w/{i}","decider":"initiator"}}"#)).await.unwrap();
    }
    let (_, first) = api.ask("GET", "?limit=1", None).await;
    let token = first["next"].as_str().unwrap().to_owned();
    let late = limits::LONGEST_LIST_PAGE + 1;
    for (query, status, pointer) in [
        ("?wait=end".to_owned(), 400, "?wait"),
        ("?Phase=Trying".into(), 400, "?Phase"),
        ("?limit=1&limit=1".into(), 400, "?limit"),
        ("?phase=trying".into(), 422, "?phase"),
        ("?attention=yes".into(), 422, "?attention"),
        ("?prefix=%25".into(), 422, "?prefix"),
        (format!("?prefix={}", "p".repeat(129)), 422, "?prefix"),
        ("?destination=".into(), 422, "?destination"),
        (format!("?destination=t:stock&page={token}"), 422, "?page"),
        ("?created_from=today".into(), 422, "?created_from"),
        ("?created_before=1e3".into(), 422, "?created_before"),
        ("?limit=0".into(), 422, "?limit"),
        (format!("?limit={late}"), 422, "?limit"),
        ("?limit=-1".into(), 422, "?limit"),
        ("?page=".into(), 422, "?page"),
        ("?page=1".into(), 422, "?page"),
        ("?page=%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9".into(), 422, "?page"),
        (format!("?page={}", token.replacen('0', "1", 1)), 422, "?page"),
        (format!("?page={}", token.to_uppercase() + "0"), 422, "?page"),
        // Of a list with other filters.
        (format!("?attention=false&page={token}"), 422, "?page"),
    ] {
        let (answered, problem) = api.ask("GET", &query, None).await;
        assert_eq!((answered.as_u16(), &problem["pointer"]), (status, &json!(pointer)), "{query}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(&pointer[1..]), "{query}: {problem}");
    }
    let (_, second) = api.ask("GET", &format!("?page={token}&limit=2"), None).await;
    assert_eq!(gids(&second), ["w/1", "w/2"], "how many are asked for may differ");
}

/// C9: what cannot be read delays nobody but itself.
#[tokio::test]
async fn a_transaction_that_cannot_be_read_is_listed_all_the_same() {
    let bench = Bench::new(&participants());
    let mut api = Api::of(&bench);
    for gid in ["before", "spoilt", "behind"] {
        bench.begin(&format!(r#"{{"gid":"{gid}","decider":"initiator"}}"#)).await.unwrap();
    }
    let mut row = bench.store.load(&gid("spoilt")).await.unwrap().unwrap();
    let replaces = Some(row.version);
    (row.document, row.version, row.tag) = (b"no record".to_vec(), row.version + 1, row.tag.wrapping_add(1));
    row.due_at = Some(bench.store.now());
    let written = bench.store.commit(vec![Write { row, replaces, claim: None }]).await.unwrap();
    assert_eq!(written, [Written::Won]);

    // Whoever comes to it has a human look.
    attention(&bench, "spoilt").await;
    let (status, list) = api.ask("GET", "", None).await;
    assert_eq!((status.as_u16(), gids(&list)), (200, vec!["before", "spoilt", "behind"]));
    let one = &list["transactions"][1];
    assert_eq!((&one["unreadable"], &one["phase"]), (&json!(true), &json!("Trying")), "{one}");
    assert_eq!(one["attention"], json!("its document cannot be read"));
    assert_eq!(list["transactions"][0].get("unreadable"), None);
}
