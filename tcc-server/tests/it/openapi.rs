//! The description of the API is the one that was reviewed, and it describes the routes that are there.

use std::path::Path;

use serde_json::{Value, json};
use tcc_core::wire::ProblemCode;
use tcc_server::api::document;

use crate::asking::Api;
use crate::scripted::{Bench, Script, status};

/// `UPDATE=1 cargo test -p tcc-server --test it openapi` writes it anew; read the difference before you commit it.
#[test]
fn the_description_is_the_reviewed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let text = document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    for (i, (is, was)) in text.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(is, was, "line {} of docs/openapi.json is another; UPDATE=1 writes it anew", i + 1);
    }
    assert_eq!(text.len(), reviewed.len(), "docs/openapi.json is longer or shorter; UPDATE=1 writes it anew");
}

/// Every operation: its path, its method and what is said of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let each = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().clone();
        methods
            .into_iter()
            .map(|(method, said)| (path.clone(), method.to_uppercase(), said))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(each).collect()
}

#[tokio::test]
async fn every_operation_of_the_description_is_served_and_answers_as_it_says() {
    let bench = Bench::new(&Script::new(async |_| status(200)));
    let mut api = Api::of(&bench);
    let document = serde_json::to_value(document()).unwrap();
    assert_eq!(document["openapi"], json!("3.1.0"));
    let operations = operations(&document);
    assert!(operations.len() >= 10, "{operations:?}");
    for (path, method, said) in operations {
        let below = path.strip_prefix("/v1").expect("all of them are of this version");
        let below = below.replace("{gid}", "nobody").replace("{topic}", "none").replace("{id}", "nothing");
        let body = said.get("requestBody").map(|_| json!({"unknown": true}));
        let (answered, problem) = api.ask_at(&method, &below, body).await;
        let documented = said["responses"].get(answered.as_str());
        assert!(documented.is_some(), "{method} {path} answers {answered}: {problem}");
        let code = problem["code"].as_str().unwrap_or_default();
        let unserved = [ProblemCode::NotFound, ProblemCode::MethodNotAllowed].map(ProblemCode::as_str);
        assert!(!unserved.contains(&code), "{method} {path} is not served");
    }
}

#[test]
fn every_body_that_can_be_sent_has_an_example() {
    let document = serde_json::to_value(document()).unwrap();
    for (path, method, said) in operations(&document) {
        let Some(schema) = said.pointer("/requestBody/content/application~1json/schema/$ref") else {
            assert!(said.get("requestBody").is_none(), "{method} {path} has a body that is not described");
            continue;
        };
        let name = schema.as_str().unwrap().rsplit('/').next().unwrap();
        let schema = &document["components"]["schemas"][name];
        let of_fields =
            schema["properties"].as_object().into_iter().flatten().any(|(_, p)| p.get("example").is_some());
        assert!(schema.get("example").is_some() || of_fields, "{name} has no example");
    }
}
