//! Three orders and their points: one that goes well, one that is refused, and one whose confirm is lost.

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
    let (orders, points) = shop.books.balanced().await?;
    println!("placed: {orders:?}; with points: {points:?}");
    Ok(())
}
