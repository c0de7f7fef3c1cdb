//! The edge of what social networks see: reads arguments and environment, prints, and says by the
//! exit code how posts stand.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use auria_post::publish::drive::Pace;
use auria_post::publish::record::{Kind, Record, State};
use auria_post::publish::records::Records;
use auria_post::publish::settings::Settings;
use auria_post::publish::{self, Outcome, Plan, Post};
use clap::{Args, ValueEnum};
use serde::Serialize;

/// A post may be there or not.
const UNKNOWN: u8 = 3;
/// A network's limit is used up.
const HELD: u8 = 4;
/// A network refused, or could not be reached.
const FAILED: u8 = 5;
/// Something is missing.
const MISSING: u8 = 1;

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Args)]
#[command(after_help = "\
Credentials come from the environment alone, and are never printed or recorded:
  AURIA_INSTAGRAM_USER   number of the professional account
  AURIA_INSTAGRAM_TOKEN  its token (instagram_business_basic, instagram_business_content_publish)
  AURIA_X_API_KEY, AURIA_X_API_SECRET, AURIA_X_ACCESS_TOKEN, AURIA_X_ACCESS_SECRET
                         OAuth 1.0a of an app that may read and write; these do not expire
  AURIA_INSTAGRAM_URL    another address of the Graph API (https://graph.facebook.com/v24.0 for
                         tokens of Facebook's login); AURIA_X_URL likewise

Instagram fetches the picture itself, a JPEG of 1080 by 1080: from AURIA_POST_PUBLIC_URL, where the
gallery is public, or from the store by a signed address.

Each day's post on each network has one record, posts/DAY/NETWORK.json. It is written before and
after the call that others see, so that run again after whatever crash, this posts once: a post
that may be there is looked for by the marker in its caption. Where that look-up fails, the post is
`unknown` and is not repeated; `auria-post resolve` is for a person who looked.

Exit codes: 0 posted, now or before; 1 something is missing or wrong; 2 wrong arguments;
3 unknown; 4 held until a limit begins anew; 5 refused or out of reach, nothing was posted.

Examples:
  auria-post publish --entry entry --records ./gallery --to instagram,x --dry-run
  auria-post publish --entry entry --records s3://auria/gallery --to x --day 2026-11-30")]
pub(crate) struct Publish {
    /// Folder that `auria-post post` wrote: entry.json, coloured.png
    #[arg(long, value_name = "DIR")]
    entry: PathBuf,
    /// Where to: instagram, x, or both; may be given more than once, and may be empty
    #[arg(long = "to", value_name = "NETWORK", value_delimiter = ',')]
    networks: Vec<String>,
    /// The gallery, where records and pictures lie below posts/: a folder, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PATH")]
    records: Option<String>,
    /// The day that it is the post of; without it, that on which the work entered the gallery
    #[arg(long, value_name = "DAY")]
    day: Option<String>,
    /// Address under which the gallery is public [env: AURIA_POST_PUBLIC_URL]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Say what would be posted and what is missing; post nothing
    #[arg(long)]
    dry_run: bool,
    /// How results are printed
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    pace: PaceArgs,
}

#[derive(Args)]
struct PaceArgs {
    /// Seconds for each answer of a network
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Seconds from a call whose answer was lost until it is looked up
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3600))]
    settle: u64,
    /// Seconds to wait for another process that is at the same post
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(0..=86400))]
    patience: u64,
}

impl PaceArgs {
    fn pace(&self) -> Pace {
        Pace {
            timeout: Duration::from_secs(self.timeout),
            settle: Duration::from_secs(self.settle),
            patience: Duration::from_secs(self.patience),
        }
    }
}

#[derive(Args)]
pub(crate) struct Posts {
    /// The gallery: a folder, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PATH")]
    records: String,
    /// How results are printed
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Look at the account first: is there a post with the marker that `auria-post posts` shows?

Examples:
  auria-post resolve --records ./gallery --day 2026-11-30 --network x --as posted --id 1445880548472328192
  auria-post resolve --records ./gallery --day 2026-11-30 --network x --as not-posted
The second lets the next `publish` post it.")]
pub(crate) struct Resolve {
    /// The gallery: a folder, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PATH")]
    records: String,
    /// The day of the post
    #[arg(long, value_name = "DAY")]
    day: String,
    /// The network: instagram or x
    #[arg(long, value_name = "NETWORK")]
    network: Kind,
    /// What you saw
    #[arg(long = "as", value_name = "STATE", value_enum)]
    saw: Saw,
    /// The network's number of the post, where it is there
    #[arg(long, value_parser = number)]
    id: Option<String>,
    #[command(flatten)]
    pace: PaceArgs,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Saw {
    /// It is there
    Posted,
    /// It is not there
    NotPosted,
}

fn number(text: &str) -> Result<String, String> {
    publish::http::identifier(&text.into()).ok_or_else(|| "it has digits alone".to_owned())
}

pub(crate) async fn publish(arguments: Publish) -> anyhow::Result<u8> {
    let networks = networks(&arguments.networks)?;
    if networks.is_empty() {
        println!("no network is named: nothing is posted");
        return Ok(0);
    }
    let place = arguments.records.filter(|place| !place.is_empty());
    let Some(place) = place else {
        bail!(
            "--records is missing: name the gallery, where it is kept what was posted; without that it could be posted twice"
        );
    };
    let settings = Settings::read(
        |name| std::env::var(name).ok(),
        arguments.public_url.as_deref(),
    )
    .map_err(anyhow::Error::msg)?;
    let records = Records::open(&place, crate::store_settings())?;
    let post = Post::read(
        &arguments.entry,
        arguments.day.as_deref().filter(|day| !day.is_empty()),
    )?;
    let mut plans = Vec::new();
    for network in &networks {
        plans.push(publish::plan(&post, *network, &records, &settings).await?);
    }
    let is_missing = plans.iter().any(|plan| !plan.missing.is_empty());
    if arguments.dry_run {
        print(arguments.output, &plans, || {
            plans.iter().map(planned).collect()
        })?;
        return Ok(if is_missing { MISSING } else { 0 });
    }
    if is_missing {
        let mut text = "nothing is posted:".to_owned();
        for plan in &plans {
            for missing in &plan.missing {
                write!(text, "\n  {}: {missing}", plan.network)?;
            }
        }
        bail!(text);
    }
    let pace = arguments.pace.pace();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut broken = Vec::new();
    for network in networks {
        // What one network does is no matter of the other's.
        let done = async {
            let account = settings
                .account(network, pace.timeout)
                .map_err(anyhow::Error::msg)?;
            Ok::<_, anyhow::Error>(
                publish::publish(&post, &account, &records, &settings, &pace).await?,
            )
        };
        match done.await {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => broken.push(format!("{network}: {error:#}")),
        }
    }
    let line = |outcome: &Outcome| stands(&outcome.record, Some(outcome.new));
    print(arguments.output, &outcomes, || {
        outcomes.iter().map(line).collect()
    })?;
    for error in &broken {
        eprintln!("auria-post: {error}");
    }
    let has = |state| outcomes.iter().any(|outcome| outcome.record.state == state);
    Ok(match () {
        () if has(State::Unknown) => UNKNOWN,
        () if !broken.is_empty() => MISSING,
        () if has(State::Failed) => FAILED,
        () if has(State::Held) => HELD,
        () => 0,
    })
}

pub(crate) async fn posts(arguments: Posts) -> anyhow::Result<u8> {
    let records = Records::open(&arguments.records, crate::store_settings())?;
    let all = records.list().await?;
    print(arguments.output, &all, || {
        if all.is_empty() {
            return "nothing was posted yet\n".to_owned();
        }
        all.iter().map(|record| stands(record, None)).collect()
    })?;
    Ok(0)
}

pub(crate) async fn resolve(arguments: Resolve) -> anyhow::Result<u8> {
    let records = Records::open(&arguments.records, crate::store_settings())?;
    let record = publish::resolve(
        &records,
        &arguments.day,
        arguments.network,
        arguments.saw == Saw::Posted,
        arguments.id,
        &arguments.pace.pace(),
    )
    .await?;
    print!("{}", stands(&record, None));
    Ok(0)
}

fn networks(texts: &[String]) -> anyhow::Result<Vec<Kind>> {
    let mut networks = Vec::new();
    for text in texts {
        for name in text.split([',', ' ']).filter(|name| !name.is_empty()) {
            let network: Kind = name.parse().map_err(anyhow::Error::msg)?;
            if !networks.contains(&network) {
                networks.push(network);
            }
        }
    }
    Ok(networks)
}

fn print<T: Serialize>(
    output: Output,
    result: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    match output {
        Output::Text => print!("{}", text()),
        Output::Json => println!("{}", serde_json::to_string_pretty(result)?),
    }
    Ok(())
}

fn planned(plan: &Plan) -> String {
    let mut text = format!("{} on {}\n", plan.day, plan.network);
    let mut line = |name: &str, value: &str| {
        let value = value.replace('\n', &format!("\n{:13}", ""));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<11}{value}");
    };
    line("state", plan.state.map_or("not begun", State::name));
    line("caption", &plan.caption);
    line("alt text", &plan.alt);
    line("marker", &plan.marker);
    let side = plan.side;
    line(
        "picture",
        &format!("{}, {side}x{side}, {} bytes", plan.picture, plan.bytes),
    );
    if let Some(url) = &plan.picture_url {
        line("fetched at", url);
    }
    for missing in &plan.missing {
        line("missing", missing);
    }
    text
}

/// How a post stands, and what to do about it.
fn stands(record: &Record, new: Option<bool>) -> String {
    let mut text = format!(
        "{}  {:<9}  {:<10}  {}",
        record.day,
        record.network.name(),
        record.state.name(),
        record.marker
    );
    if new == Some(false) {
        text.push_str("  (was there)");
    }
    if let Some(place) = record.permalink.as_ref().or(record.id.as_ref()) {
        text = format!("{text}  {place}");
    }
    if let Some(why) = &record.why {
        text = format!("{text}\n  {why}");
    }
    let help = match (record.state, record.retry_after) {
        (State::Unknown, _) => Some(format!(
            "it is not repeated: run this again when the network answers, or look at the account for {} and say `auria-post resolve --day {} --network {} --as posted|not-posted`",
            record.marker, record.day, record.network
        )),
        (State::Held, Some(until)) => Some(format!("run this again after {until}")),
        (State::Failed, _) => {
            Some("nothing was posted: run this again when that is mended".to_owned())
        }
        _ => None,
    };
    if let Some(help) = help {
        text = format!("{text}\n  {help}");
    }
    text.push('\n');
    text
}
