//! dtm's HTTP protocol, as its clients speak it for a TCC: prepare, for each branch register and try, and submit,
//! which answers with the decision. The coordinator confirms after that.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::PAYLOAD;
use crate::Failure;
use crate::client::HttpClient;

pub(super) struct Api {
    client: HttpClient,
    /// Of the coordinator, up to and with `/api/dtmsvr`.
    url: String,
    participants: Vec<String>,
}

#[derive(Deserialize)]
struct Said {
    dtm_result: String,
}

impl Api {
    pub(super) fn new(client: HttpClient, url: &str, participants: &[String]) -> Self {
        let participants = participants.iter().map(|at| format!("http://{at}/dtm")).collect();
        Self { client, url: format!("{}/api/dtmsvr", url.trim_end_matches('/')), participants }
    }

    pub(super) async fn transact(&self, gid: &str) -> Result<(), Failure> {
        let global = json!({ "gid": gid, "trans_type": "tcc" }).to_string();
        self.ask("prepare", global.clone()).await?;
        for (i, at) in self.participants.iter().enumerate() {
            let branch = format!("{:02}", i + 1);
            let registration = json!({
                "gid": gid, "trans_type": "tcc", "branch_id": branch, "data": PAYLOAD,
                "confirm": format!("{at}/confirm"), "cancel": format!("{at}/cancel"),
            });
            self.ask("registerBranch", registration.to_string()).await?;
            let url = format!("{at}/try?gid={gid}&trans_type=tcc&branch_id={branch}&op=try");
            succeeded(&self.client.done(&url, &Vec::new(), PAYLOAD).await?)?;
        }
        self.ask("submit", global).await
    }

    async fn ask(&self, what: &str, body: String) -> Result<(), Failure> {
        succeeded(&self.client.done(&format!("{}/{what}", self.url), &Vec::new(), body).await?)
    }
}

fn succeeded(answer: &Bytes) -> Result<(), Failure> {
    let said: Said = serde_json::from_slice(answer)?;
    if said.dtm_result == "SUCCESS" { Ok(()) } else { Err(String::from_utf8_lossy(answer).into()) }
}
