//! An outbox: orders are placed while the coordinator is away, and their points come once it is there.

use std::path::Path;

use tcc_client::{BoxError, Branch, Client, LocalError, Outbox, SqliteDatabase};
use tcc_server::Scheduler;

use crate::loyalty::{Books, Points};
use crate::serving;

/// Both services, in one process and one folder.
pub struct Shop {
    /// Who ordered, and who has points.
    pub books: Books,
    outbox: Outbox<SqliteDatabase>,
    loyalty: String,
}

impl Shop {
    /// Opens the shop. It needs no coordinator.
    ///
    /// # Errors
    /// When a file or a port cannot be opened.
    pub async fn open(folder: &Path) -> Result<Self, BoxError> {
        let (books, loyalty) = Books::open(folder).await?;
        let outbox = Outbox::new("orders", books.orders.clone())?;
        outbox.create_schema().await?;
        Ok(Self { books, outbox, loyalty })
    }

    /// Places an order, with its message in the same local transaction. A number that is taken fails both.
    ///
    /// # Errors
    /// When it was not placed, or nobody knows.
    pub async fn place(&self, number: u32) -> Result<(), LocalError> {
        let (outbox, loyalty) = (self.outbox.clone(), self.loyalty.clone());
        self.outbox
            .transact(move |tx| {
                let (outbox, loyalty) = (outbox.clone(), loyalty.clone());
                Box::pin(async move {
                    let points = Branch::new("points").confirm(format!("{loyalty}/points/confirm"));
                    let points = points.payload(&Points { order: number })?;
                    outbox.put(tx, outbox.message().branch(points)).await?;
                    tx.execute("INSERT INTO orders (number) VALUES (?1)", [number])?;
                    Ok(())
                })
            })
            .await
    }

    /// How many messages the coordinator does not have yet.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn waiting(&self) -> Result<u64, LocalError> {
        Ok(self.outbox.backlog().await?.pending)
    }

    /// Starts a coordinator, and the relay that hands it what waits.
    ///
    /// # Errors
    /// When a file or a port cannot be opened.
    pub async fn start_coordinator(&self, folder: &Path) -> Result<Scheduler, BoxError> {
        let (at, scheduler) = serving::coordinator(folder, std::future::pending()).await?;
        let client = Client::new(&at)?;
        tokio::spawn(self.outbox.relay(client).run());
        Ok(scheduler)
    }
}
