//! The program `auria-post`: the edge that reads arguments and environment, and prints.
//!
//! Everything else is in the library; `social.rs` is the edge of what social networks see.

mod social;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use auria_post::gallery::Gallery;
use auria_post::work::{Folders, Work};
use clap::{Args, Parser, Subcommand};
use time::OffsetDateTime;
use time::macros::format_description;

/// Posts a work of Auria's: a poem, its painting, and the painting coloured in a mood.
#[derive(Parser)]
#[command(name = "auria-post", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Post a work into a folder, and look at the page:
    auria-post post --poem poem --painting painting --coloured coloured \\
      --gallery ./gallery --out entry
    xdg-open gallery/index.html

  The same into a bucket (AWS_ENDPOINT, AWS_ACCESS_KEY_ID … as usual):
    auria-post post --poem poem --painting painting --coloured coloured \\
      --gallery s3://auria/gallery --out entry

  Write the page again, after an entry was removed by hand:
    auria-post page --gallery ./gallery

  Say what would be posted to Instagram and X, and what is missing:
    auria-post publish --entry entry --records ./gallery --to instagram,x --dry-run";

#[derive(Subcommand)]
enum Command {
    /// Caption a work, write its entry, and show it in the gallery
    Post(Post),
    /// Render the gallery's page from its entries
    Page(Page),
    /// Post an entry to Instagram and X, once a day on each
    Publish(social::Publish),
    /// List the posts to social networks and how each stands
    Posts(social::Posts),
    /// Say how a post is that could not be looked up
    Resolve(social::Resolve),
}

#[derive(Args)]
#[command(after_help = "\
An entry's key is the digest of the poem and both pictures: the same work posted again changes
nothing, and posts that run at once lose none.

Example:
  auria-post post --poem out/poem --painting out/painting --coloured out/coloured \\
    --gallery ./gallery --out out/entry")]
struct Post {
    /// Folder with poem.json (lines, mood, topic, seed), or only poem.txt
    #[arg(long, value_name = "DIR")]
    poem: PathBuf,
    /// Folder with painting.png
    #[arg(long, value_name = "DIR")]
    painting: PathBuf,
    /// Folder with coloured.png, and coloured.json (mood, artwork)
    #[arg(long, value_name = "DIR")]
    coloured: PathBuf,
    /// Where the work is shown: a folder, or s3://BUCKET/PREFIX; without it only the entry is written
    #[arg(long, value_name = "PATH")]
    gallery: Option<String>,
    /// Folder for entry.json, painting.png and coloured.png
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the run that made the work, kept in the entry
    #[arg(long, env = "AURIA_RUN")]
    run: Option<String>,
}

#[derive(Args)]
struct Page {
    /// The gallery: a folder, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PATH")]
    gallery: String,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("auria-post: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    match cli.command {
        Command::Post(arguments) => runtime.block_on(post(arguments)),
        Command::Page(arguments) => runtime.block_on(async {
            let shown = open(&arguments.gallery)?.render().await?;
            println!("{}: {shown} shown", arguments.gallery);
            Ok(0)
        }),
        Command::Publish(arguments) => runtime.block_on(social::publish(arguments)),
        Command::Posts(arguments) => runtime.block_on(social::posts(arguments)),
        Command::Resolve(arguments) => runtime.block_on(social::resolve(arguments)),
    }
}

async fn post(arguments: Post) -> anyhow::Result<u8> {
    let folders = Folders {
        poem: &arguments.poem,
        painting: &arguments.painting,
        coloured: &arguments.coloured,
    };
    let mut work = Work::read(&folders, now()?, arguments.run)?;
    let gallery = arguments.gallery.filter(|gallery| !gallery.is_empty());
    if let Some(address) = gallery {
        let posted = open(&address)?.post(&work).await?;
        let what = if posted.new { "posted" } else { "was there" };
        println!(
            "{address}: {what}, {} shown, {}",
            posted.shown, posted.entry.key
        );
        work.entry = posted.entry;
    }
    work.write(&arguments.out)?;
    println!("{}", work.entry.caption);
    Ok(0)
}

fn open(gallery: &str) -> anyhow::Result<Gallery> {
    Ok(Gallery::open(gallery, store_settings())?)
}

/// object_store also takes names such as TOKEN or TIMEOUT for settings: only AWS_… are meant.
fn store_settings() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("AWS_"))
}

fn now() -> anyhow::Result<String> {
    OffsetDateTime::now_utc()
        .format(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        ))
        .context("cannot write down the time")
}
