//! The http room alone, for `scripts/bench http`: a server that answers
//! `/ping`, `/big` (10 MiB) and any other path after reading past its body,
//! and a client that fetches many at once.
//!
//! `http serve ADDRESS`, until it is killed; `http fetch ADDRESS COUNT`, which
//! prints by how many KiB the client's memory grew.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_executor::LocalExecutor;
use async_io::block_on;
use helios::http::Error;
use helios::http::client::{Client, Endpoint, Request, Timeouts};
use helios::http::server::{Answering, Exchange, Handler, Listener, Server};

const PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
const PIECES: usize = 10 * 1024 / 16;

struct Answers;

impl Handler for Answers {
    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answering<'a> {
        Box::pin(async move {
            match exchange.path() {
                "/ping" => exchange.respond(200, &[], b"OK").await,
                "/big" => {
                    exchange.stream(200, &[]).await?;
                    for _ in 0..PIECES {
                        exchange.write(&PIECE).await?;
                    }
                    Ok(())
                }
                _ => {
                    while let Ok(Some(_)) = exchange.chunk().await {}
                    exchange.respond(204, &[], b"").await
                }
            }
        })
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => {
            let listener = Listener::bind_tcp(address.parse()?)?;
            let server = Server::new(vec![listener], Arc::new(Answers));
            block_on(server.run(std::future::pending(), Duration::ZERO));
            Ok(())
        }
        ["fetch", address, count] => fetch(address.parse()?, count.parse()?),
        _ => Err("http serve ADDRESS | http fetch ADDRESS COUNT".into()),
    }
}

fn fetch(address: SocketAddr, count: usize) -> Result<(), Box<dyn StdError>> {
    let limit = Duration::from_secs(60);
    let timeouts = Timeouts {
        resolve: limit,
        connect: limit,
        tls: limit,
        head: limit,
        idle: limit,
        total: None,
    };
    let endpoint = Endpoint::Tcp {
        host: address.ip().to_string(),
        port: address.port(),
    };
    let client = Client::new(endpoint, timeouts);
    block_on(one(&client, "/ping"))?;
    let before = resident("VmRSS:")?;
    let executor = LocalExecutor::new();
    let tasks: Vec<_> = (0..count)
        .map(|_| executor.spawn(one(&client, "/big")))
        .collect();
    let all = async {
        for task in tasks {
            let got = task.await?;
            assert_eq!(got, PIECE.len() * PIECES);
        }
        Ok::<_, Error>(())
    };
    block_on(executor.run(all))?;
    println!("{}", resident("VmHWM:")?.saturating_sub(before));
    Ok(())
}

/// How much came.
async fn one(client: &Client, target: &str) -> Result<usize, Error> {
    let request = Request {
        method: "GET",
        target,
        ..Request::default()
    };
    let mut response = client.send(request).await?;
    let mut got = 0;
    while let Some(piece) = response.chunk().await? {
        got += piece.len();
    }
    Ok(got)
}

/// A line of the process's own status, in KiB.
fn resident(name: &str) -> Result<usize, Box<dyn StdError>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no such line")?.parse()?)
}
