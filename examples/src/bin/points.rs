//! Three orders and their points: one that goes well, one that is refused, and one whose confirm is lost.

use std::time::Duration;

use tcc_examples::points::{Mishap, Shop};

#[tokio::main]
async fn main() -> Result<(), tcc_client::BoxError> {
    let folder = tempfile::tempdir()?;
    let shop = Shop::open(folder.path()).await?;
    for (number, mishap) in
        [(1, None), (2, Some(Mishap::TheOrderIsRefused)), (3, Some(Mishap::TheConfirmIsLost))]
    {
        match shop.place(number, mishap).await {
            Ok(()) => println!("order {number}: placed"),
            Err(error) => println!("order {number}: {error}"),
        }
    }
    for _ in 0..300 {
        let (orders, points) = shop.books().await?;
        if orders == points {
            println!("placed: {orders:?}; with points: {points:?}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the points did not come".into())
}
