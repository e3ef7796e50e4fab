//! Three orders over two databases: one that goes well, one that is refused, and one that is cancelled while both have it
//! prepared. `xa POSTGRES-URL MYSQL-URL`, each of an empty database.

use tcc_examples::xa::Shop;

#[tokio::main]
async fn main() -> Result<(), tcc_client::BoxError> {
    let urls: Vec<String> = std::env::args().skip(1).collect();
    let [postgres, mysql] = &*urls else { return Err("usage: xa POSTGRES-URL MYSQL-URL".into()) };
    let folder = tempfile::tempdir()?;
    let shop = Shop::open(folder.path(), postgres, mysql).await?;
    for (number, quantity, cents) in [(1, 2, 3998), (2, 1, 1_000_000)] {
        let standing = shop.buy(number, quantity, cents).await?;
        let why = standing.reason().map(|why| format!(": {why}")).unwrap_or_default();
        println!("order {number}: {}{why}", standing.phase().as_str());
        left(&shop).await?;
    }
    let (prepared, why) = shop.reconsider(3).await?;
    println!("order 3: prepared: {}", prepared.join(", "));
    println!("order 3: Cancelled: {why}");
    left(&shop).await
}

async fn left(shop: &Shop) -> Result<(), tcc_client::BoxError> {
    let (cents, pieces) = shop.books().await?;
    println!(
        "  alice has {cents} cents, the shelf {pieces} books; prepared: {}",
        shop.prepared().await?.len()
    );
    Ok(())
}
