//! A transactional message: an order is placed in one local transaction, and points are credited elsewhere if, and only
//! if, it commits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tcc_client::{BoxError, Branch, Client, Gid, Participants};
use tcc_server::Scheduler;
use tokio::sync::Notify;

use crate::loyalty::{Books, Points};
use crate::serving::{self, serve};

/// Both services and a coordinator, in one process and one folder.
pub struct Shop {
    /// Who ordered, and who has points.
    pub books: Books,
    client: Client,
    orders: String,
    loyalty: String,
    cut: Arc<Notify>,
    _scheduler: Scheduler,
}

impl Shop {
    /// Opens the shop.
    ///
    /// # Errors
    /// When a file or a port cannot be opened.
    pub async fn open(folder: &Path) -> Result<Self, BoxError> {
        let (books, loyalty) = Books::open(folder).await?;
        let db = &books.orders;
        let checks = Participants::new().senders("orders", db.clone()).into_router();
        let orders = serve(Router::new().nest("/tcc", checks)).await?;

        let cut = Arc::new(Notify::new());
        let stop = cut.clone();
        let (at, scheduler) = serving::coordinator(folder, async move { stop.notified().await }).await?;
        let client = Client::builder(&at).repeat_for(Duration::from_secs(1)).build()?;
        Ok(Self { books, client, orders, loyalty, cut, _scheduler: scheduler })
    }

    /// Places an order. The points follow by themselves. On the way something may happen, before the commit.
    ///
    /// # Errors
    /// When it was not placed, or nobody knows.
    pub async fn place(&self, number: u32, mishap: Option<Mishap>) -> Result<(), BoxError> {
        let (client, db, orders, loyalty) = (&self.client, &self.books.orders, &self.orders, &self.loyalty);
        let cut = self.cut.clone();
        let gid: Gid = format!("order/{number}").parse()?;

        let points = Branch::new("points").confirm(format!("{loyalty}/points/confirm"));
        let points = points.payload(&Points { order: number })?;
        let message = client.message(gid, format!("{orders}/tcc/orders/check")).deliver(points);
        message
            .check_after(Duration::from_secs(2))
            .send(db, move |tx| {
                let cut = cut.clone();
                Box::pin(async move {
                    tx.execute("INSERT INTO orders (number) VALUES (?1)", [number])?;
                    match mishap {
                        None => {}
                        Some(Mishap::TheConfirmIsLost) => cut.notify_one(),
                        Some(Mishap::TheOrderIsRefused) => return Err("no such article".into()),
                    }
                    Ok(())
                })
            })
            .await?;
        Ok(())
    }
}

/// What can happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The coordinator cannot be reached any more, and asks itself.
    TheConfirmIsLost,
    /// The local transaction fails.
    TheOrderIsRefused,
}
