//! A real redis-server on a free port in a folder of its own, gone with the value.

use std::{
    io::Write as _,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use redis::aio::MultiplexedConnection;

use crate::wait;

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Password of the default user; none when empty.
    pub password: String,
    /// Number of databases.
    pub databases: u32,
    /// Further lines of its configuration.
    pub config: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { password: "redis-secret".to_owned(), databases: 16, config: vec![] }
    }
}

/// A running server.
pub struct RedisServer {
    child: Child,
    folder: tempfile::TempDir,
    options: Options,
    /// Port on 127.0.0.1.
    pub port: u16,
}

/// A port that nobody listens on at this moment.
///
/// # Errors
/// When the machine has none left.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("find a free port")?.local_addr()?.port())
}

fn spawn(folder: &Path, port: u16, options: &Options) -> Result<Child> {
    // By standard input, so that the password is in no argument.
    let mut child = Command::new("redis-server")
        .arg("-")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(
            std::fs::OpenOptions::new().create(true).append(true).open(folder.join("redis.log"))?,
        )
        .stderr(Stdio::null())
        .spawn()
        .context("start redis-server: is it installed?")?;
    let mut config = format!(
        "port {port}\nbind 127.0.0.1\nsave \"\"\nappendonly no\ndatabases {}\ndir {}\nrepl-diskless-sync-delay 0\n\
         enable-debug-command local\n",
        options.databases,
        folder.display()
    );
    if !options.password.is_empty() {
        config.push_str(&format!("requirepass {}\n", options.password));
    }
    for line in &options.config {
        config.push_str(line);
        config.push('\n');
    }
    child.stdin.take().context("standard input of redis-server")?.write_all(config.as_bytes())?;
    Ok(child)
}

impl RedisServer {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When it does not start within ten seconds.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let child = spawn(folder.path(), port, &options)?;
        let mut server = Self { child, folder, options, port };
        server.ready().await?;
        Ok(server)
    }

    /// Starts it again after [`Self::kill`], on the same port, empty.
    ///
    /// # Errors
    /// When it does not start within ten seconds.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        self.child = spawn(self.folder.path(), self.port, &self.options)?;
        self.ready().await
    }

    async fn ready(&mut self) -> Result<()> {
        wait::until("redis-server answers", Duration::from_secs(10), async || {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.folder.path().join("redis.log"))
                    .unwrap_or_default();
                bail!("redis-server ended at once ({status}):\n{log}");
            }
            Ok(self.connect().await.ok())
        })
        .await
        .map(|_| ())
    }

    /// Its URL, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        match self.options.password.as_str() {
            "" => format!("redis://127.0.0.1:{}", self.port),
            password => format!("redis://:{password}@127.0.0.1:{}", self.port),
        }
    }

    /// Its password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.options.password
    }

    /// A client of database 0.
    ///
    /// # Errors
    /// Never in practice: the URL is ours.
    pub fn client(&self) -> Result<redis::Client> {
        Ok(redis::Client::open(self.url())?)
    }

    /// A connection to database 0.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn connect(&self) -> Result<MultiplexedConnection> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection =
            self.client()?.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd("PING").exec_async(&mut connection).await?;
        Ok(connection)
    }

    /// Sends one command and returns its reply.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        let mut command = redis::cmd(words.first().context("an empty command")?);
        command.arg(&words[1..]);
        let mut connection = self.connect().await?;
        command.query_async(&mut connection).await.with_context(|| words.join(" "))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
