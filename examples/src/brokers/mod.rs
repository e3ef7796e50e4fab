//! Points by a broker: the message of an order goes there if, and only if, its local transaction commits, and whoever
//! consumes it credits each order once, however often the broker delivers the message.

#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;

use std::time::Duration;

use tcc_client::{BoxError, Consumer, LocalError, Received, SqliteDatabase};

use crate::loyalty::{Books, Points};
use crate::points::{Mishap, Shop};

/// The loyalty service, as far as it consumes.
pub struct Loyalty(Consumer<SqliteDatabase>);

impl Loyalty {
    /// Takes a message in. It can be acknowledged then.
    ///
    /// # Errors
    /// When it is to be delivered again.
    pub async fn receive(&self, source: &str, id: &str, points: Points) -> Result<Received<()>, LocalError> {
        let received = self.0.receive(source, id, move |tx| {
            Box::pin(async move {
                tx.execute("INSERT INTO points (number, points) VALUES (?1, 10)", [points.order])?;
                Ok(())
            })
        });
        let received = received.await?;
        match received {
            Received::New(()) => println!("{id}: credited"),
            Received::Repeat => println!("{id}: it was credited before"),
        }
        Ok(received)
    }
}

/// Three orders whose points go to this endpoint of a broker: one that goes well, one that is refused, and one whose
/// confirm is lost. The consumer is given, and ends once it has acknowledged two.
///
/// # Errors
/// When anything could not be opened, or the consumer fails or does not end.
pub async fn story<F>(broker: String, consume: impl FnOnce(Loyalty) -> F) -> Result<(), BoxError>
where
    F: Future<Output = Result<(), BoxError>>,
{
    let folder = tempfile::tempdir()?;
    let (books, _) = Books::open(folder.path()).await?;
    let loyalty = Loyalty(Consumer::new("points", books.loyalty.clone())?);
    let shop = Shop::delivering(folder.path(), books, broker).await?;
    for (number, mishap) in
        [(1, None), (2, Some(Mishap::TheOrderIsRefused)), (3, Some(Mishap::TheConfirmIsLost))]
    {
        match shop.place(number, mishap).await {
            Ok(()) => println!("order {number}: placed"),
            Err(error) => println!("order {number}: {error}"),
        }
    }
    tokio::time::timeout(Duration::from_secs(60), consume(loyalty)).await??;
    let (orders, points) = shop.books.read().await?;
    println!("placed: {orders:?}; with points: {points:?}");
    Ok(())
}
