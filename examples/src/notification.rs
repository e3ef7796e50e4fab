//! Best-effort notification: a shop is told of its payments, a few times each, and an operator hears of what it was not
//! told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use tcc_client::{BoxError, Branch, Client, Gid, Phase, Retry, Submission, Then, Wait};
use tcc_server::{Scheduler, Settings};
use tokio::sync::mpsc;

use crate::serving::{self, serve};

/// Who tells, who is told, and who hears of what could not be told.
pub struct Payments {
    client: Client,
    shop: String,
    /// Whether the shop takes anything in.
    pub shop_is_open: Arc<AtomicBool>,
    /// How often the shop was called.
    pub calls: Arc<AtomicU32>,
    alerts: mpsc::Receiver<Value>,
    _scheduler: Scheduler,
}

impl Payments {
    /// Starts all of them, in one process and one folder.
    ///
    /// # Errors
    /// When a file or a port cannot be opened.
    pub async fn open(folder: &Path) -> Result<Self, BoxError> {
        let (shop_is_open, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let (open, called) = (shop_is_open.clone(), calls.clone());
        let hook = move || async move {
            called.fetch_add(1, Ordering::SeqCst);
            if open.load(Ordering::SeqCst) { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
        };
        let shop = serve(Router::new().route("/hooks/paid", post(hook))).await?;

        let (told, alerts) = mpsc::channel(16);
        let page = move |body: axum::Json<Value>| async move {
            // Nobody reads it any more: the coordinator tells again, a few times.
            told.send(body.0).await.map_or(StatusCode::GONE, |()| StatusCode::NO_CONTENT)
        };
        let operator = serve(Router::new().route("/alerts", post(page))).await?;

        let settings =
            Settings { alerts: Some(format!("{operator}/alerts").parse()?), ..Settings::default() };
        let (at, scheduler) = serving::coordinator(folder, settings, std::future::pending()).await?;
        let client = Client::new(&at)?;
        Ok(Self { client, shop, shop_is_open, calls, alerts, _scheduler: scheduler })
    }

    /// Tells the shop that it was paid: at once, and again after each of two short waits. Returns how that ended.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn tell(&self, number: u32) -> Result<Phase, BoxError> {
        let waits = vec![Duration::from_millis(50), Duration::from_millis(100)];
        let shop = Branch::new("shop")
            .confirm(format!("{}/hooks/paid", self.shop))
            .retry(Retry::Intervals { waits, then: Then::GiveUp })
            .payload(&json!({ "payment": number, "state": "paid" }))?;
        let told = Submission::new(gid(number)).branch(shop).wait(Wait::End);
        Ok(self.client.submit(told).await?.phase())
    }

    /// Waits for what the operator is told next, at most half a minute.
    ///
    /// # Errors
    /// When it is told nothing.
    pub async fn alert(&mut self) -> Result<Value, BoxError> {
        let told = tokio::time::timeout(Duration::from_secs(30), self.alerts.recv()).await?;
        told.ok_or_else(|| "nobody tells any more".into())
    }

    /// Has the shop told anew of what was given up. Returns how that ended.
    ///
    /// # Errors
    /// When the coordinator does not answer, or nothing was given up.
    pub async fn tell_again(&self, number: u32) -> Result<Phase, BoxError> {
        let under = format!("{}/again", gid(number)).parse()?;
        let begun = self.client.resend(&gid(number), &under).await?;
        Ok(self.client.wait(begun.gid(), Wait::End, Duration::from_secs(10)).await?.phase())
    }
}

fn gid(number: u32) -> Gid {
    format!("payment/{number}/paid").parse().expect("it is a gid")
}
