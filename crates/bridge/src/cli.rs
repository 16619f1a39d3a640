//! The command: settings, sockets, then the supervisor.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use rsgi_config::{
    Config, LoadError, Loaded, LogConfig, LogFile, LogOptions, ReloadOptions, Surroundings, load,
    process_environment,
};
use rsgi_supervisor::{
    BindError, Hooks, Identity, Listener, MEMORY_INTERVAL, PidFile, ServiceManager,
    SupervisorOptions, WorkerCommand, activated, bind_all, exit, run,
};

use crate::keywords::Keywords;
use crate::logging::PythonLog;
use crate::tls::{self, Keeper};
use crate::{ask, logging, options as settings};

/// With `--reload`: how long requests whose response has not begun may still take.
const DEVELOPMENT_GRACE: Duration = Duration::from_secs(1);

/// Run the command `rsgi` with these arguments (without its name). Returns the exit status.
///
/// `command` is the program and the arguments that start a worker, `reader` those that read a
/// Python file of settings.
#[pyfunction]
pub(crate) fn main(
    py: Python<'_>,
    arguments: Vec<OsString>,
    command: Vec<OsString>,
    reader: Vec<OsString>,
) -> u8 {
    if let Some(ask) = arguments.first().and_then(|word| ask::command(word)) {
        return py.detach(|| ask(arguments.into_iter().skip(1).collect()));
    }
    let surroundings = Surroundings::of_process(reader);
    let read = move || load(arguments.clone(), &surroundings);
    py.detach(|| match read() {
        Ok(loaded) => supervise(loaded, command, read),
        Err(error) => explain(&error),
    })
}

/// Supervise workers with settings given as keywords: `rsgi.run()` with an import string.
#[pyfunction]
pub(crate) fn supervise_keywords(
    py: Python<'_>,
    keywords: &Keywords,
    command: Vec<OsString>,
) -> u8 {
    let loaded = keywords.loaded.clone();
    let read = {
        // Keywords are a program's, and stay what they were.
        let loaded = Loaded { notices: Vec::new(), ..loaded.clone() };
        move || Ok(loaded.clone())
    };
    py.detach(|| supervise(loaded, command, read))
}

/// Prints why no configuration came out.
pub(crate) fn explain(error: &LoadError) -> u8 {
    let text = format!("{error}\n");
    // A reader that has gone (`rsgi --help | head -1`) is not worth a message.
    let _ = match error {
        LoadError::Help(_) => io::stdout().lock().write_all(text.as_bytes()),
        LoadError::Usage(_) => io::stderr().lock().write_all(text.as_bytes()),
    };
    error.exit_status()
}

/// Binds, then runs the supervisor; `read` is what reads the settings again on HUP.
fn supervise(loaded: Loaded, command: Vec<OsString>, read: impl Read) -> u8 {
    let Loaded { mut config, notices, remark, launch } = loaded;
    if let Err(message) = open_logs(&mut config) {
        // There is no log to write it to.
        let _ = writeln!(io::stderr().lock(), "error: {message}");
        return exit::STARTUP;
    }
    if let Some(directory) = &launch.directory
        && let Err(error) = std::env::set_current_dir(directory)
    {
        log::error!("cannot serve from `{}`: {error}", directory.display());
        return exit::STARTUP;
    }
    let becomes_another = config.workers.user.is_some() || config.workers.group.is_some();
    let log_of_first = (!becomes_another).then(|| PythonLog::begin(&config.log));
    for notice in notices {
        log::warn!("{notice}");
    }
    if let Some(remark) = remark {
        log::info!("{remark}");
    }
    for notice in settle_for_development(&mut config) {
        log::warn!("{notice}");
    }
    // As the first user of the process, who may be the only one to be allowed to.
    let keeper = match Keeper::new(&config) {
        Ok(keeper) => keeper,
        Err(error) => {
            log::error!("{error}");
            return exit::STARTUP;
        }
    };
    let (listeners, _pid_file) = match prepare(&config) {
        Ok(prepared) => prepared,
        Err((error, status)) => {
            log::error!("{error}");
            return status;
        }
    };
    let _python_log = log_of_first.unwrap_or_else(|| PythonLog::begin(&config.log));
    // After the application's own addresses: those are what a mistake is more likely to be about.
    let admin = match bind_all(config.bind.admin.as_slice(), settings::backlog(&config.bind)) {
        Ok(admin) => admin,
        Err(error) => {
            log::error!("admin listener: {error}");
            return exit::STARTUP;
        }
    };
    let passed = options(&config, launch.environment, &command)
        .and_then(|options| Ok((options, keeper.map(Keeper::updates).transpose()?)));
    match passed {
        Ok((options, updates)) => {
            let renewed = Arc::new(Mutex::new(None));
            let pending = Arc::clone(&renewed);
            let hooks = Hooks::default()
                .on_reload(move || {
                    let (options, log) = reload(&read, &config, &command)?;
                    *pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
                    Ok(options)
                })
                .on_settled(move |are_kept| switch_logs(&renewed, are_kept))
                .on_reopen_logs(logging::reopen);
            let service_manager = service_manager();
            run(SupervisorOptions { updates, hooks, service_manager, ..options }, listeners, admin)
        }
        Err(error) => {
            log::error!("the settings cannot be passed to the workers: {error}");
            exit::FAILURE
        }
    }
}

/// Opens whatever the first user of the process has to open, then becomes the one it is to run as.
fn prepare(config: &Config) -> Result<(Vec<Listener>, Option<PidFile>), (String, u8)> {
    let failed = |error: &dyn Display| (error.to_string(), exit::STARTUP);
    let workers = &config.workers;
    let identity = Identity::find(workers.user.as_ref(), workers.group.as_ref())
        .map_err(|error| (error.to_string(), exit::USAGE))?;
    let listeners = listen(config).map_err(|error| failed(&error))?;
    let pid_file = workers.pid.as_deref().map(PidFile::create).transpose();
    let pid_file = pid_file.map_err(|error| failed(&error))?;
    if let Some(identity) = identity {
        identity.assume(&listeners, pid_file.as_ref()).map_err(|error| failed(&error))?;
    }
    Ok((listeners, pid_file))
}

/// Who started this process and wants to know how it goes.
fn service_manager() -> Option<ServiceManager> {
    let variable = |name| process_environment(name).and_then(|value| value.into_string().ok());
    let socket = process_environment("NOTIFY_SOCKET");
    let (usec, pid) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
    let pid = pid.as_deref();
    ServiceManager::from_values(std::process::id(), socket.as_deref(), usec.as_deref(), pid)
        .unwrap_or_else(|error| {
            log::warn!("Cannot tell the service manager anything, NOTIFY_SOCKET: {error}");
            None
        })
}

/// Reads the settings from wherever they come.
trait Read: Fn() -> Result<Loaded, LoadError> + Send + Sync + 'static {}

impl<F: Fn() -> Result<Loaded, LoadError> + Send + Sync + 'static> Read for F {}

/// Where the supervisor logs changes with a reload that succeeds: until then its lines are where
/// somebody looks for them.
fn switch_logs(renewed: &Mutex<Option<LogOptions>>, are_kept: bool) {
    let log = renewed.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(log) = log.filter(|_| are_kept)
        && let Err(error) = logging::switch(&log)
    {
        log::error!("cannot log as the new settings say: {error}");
    }
}

/// What HUP does about settings: they are read anew, and all but those in `first` that live as long
/// as the supervisor are those of the new workers. Returns what the supervisor needs and how it is to
/// log from then on.
fn reload(
    read: &impl Read,
    first: &Config,
    command: &[OsString],
) -> Result<(SupervisorOptions, LogOptions), String> {
    let Loaded { mut config, notices, launch, .. } = read().map_err(|error| error.to_string())?;
    try_logs(&mut config)?;
    if let Some(file) = &config.log.error_logfile {
        let opened = logging::try_access_file(file);
        opened.map_err(|error| explain_log("--error-logfile", file, &error))?;
    }
    for notice in notices {
        log::warn!("{notice}");
    }
    settle_for_development(&mut config);
    let fixed = keep_fixed(first, &mut config);
    if !fixed.is_empty() {
        log::warn!("{} cannot change without a restart, and stays as it was", fixed.join(", "));
    }
    let log = config.log.clone();
    let options = options(&config, launch.environment, command);
    options.map(|options| (options, log)).map_err(|error| error.to_string())
}

/// In development nobody is waited for, and nothing is kept that has not been imported anew. Returns
/// what to say about settings that come to nothing.
fn settle_for_development(config: &mut Config) -> Vec<&'static str> {
    let (reload, workers) = (&mut config.reload, &mut config.workers);
    let mut notices = Vec::new();
    if !reload.is_on {
        let rest = ReloadOptions { poll: None, ..reload.clone() };
        if rest != ReloadOptions::default() {
            notices.push("--reload-dir, --reload-include, --reload-exclude and --reload-delay have no effect without --reload");
        }
        return notices;
    }
    if std::mem::take(&mut workers.preload) {
        notices.push("--preload has no effect with --reload: changed code has to be imported by new processes");
    }
    workers.timeout_graceful_shutdown = workers.timeout_graceful_shutdown.min(DEVELOPMENT_GRACE);
    workers.timeout_stream_shutdown = Some(Duration::ZERO);
    workers.shutdown_delay = Duration::ZERO;
    if reload.directories.is_empty() {
        reload.directories.push(".".into());
        let app_dir = PathBuf::from(&config.app.app_dir);
        let is_elsewhere = app_dir.canonicalize().is_ok_and(|path| {
            std::env::current_dir().is_ok_and(|current| !path.starts_with(current))
        });
        reload.directories.extend(Some(app_dir).filter(|_| is_elsewhere));
    }
    notices
}

/// Sets back what cannot change while the supervisor runs. Returns what that was.
fn keep_fixed(first: &Config, config: &mut Config) -> Vec<&'static str> {
    let mut fixed = Vec::new();
    if config.bind.addresses != first.bind.addresses {
        fixed.push("where to listen (--host, --port, --bind, --uds, --fd)");
    }
    if config.bind.backlog != first.bind.backlog {
        fixed.push("--backlog");
    }
    if config.bind.admin != first.bind.admin {
        fixed.push("--admin-bind");
    }
    let (now, before) = (&mut config.workers, &first.workers);
    if (&now.user, &now.group, &now.pid) != (&before.user, &before.group, &before.pid) {
        fixed.push("as whom to run (--user, --group, --pid)");
    }
    if now.preload != before.preload {
        fixed.push("--preload");
    }
    now.preload = before.preload;
    if config.reload != first.reload {
        fixed.push("what is watched (--reload, --reload-...)");
    }
    config.reload = first.reload.clone();
    config.bind = first.bind.clone();
    if config.tls != first.tls {
        fixed.push("TLS (--ssl-..., --redirect-https)");
    }
    config.tls = first.tls.clone();
    fixed
}

/// Logs to where the settings say.
fn open_logs(config: &mut Config) -> Result<(), String> {
    try_logs(config)?;
    logging::install(&config.log, None).map_err(|error| match &config.log.error_logfile {
        Some(file) => explain_log("--error-logfile", file, &error),
        None => error.to_string(),
    })
}

fn explain_log(flag: &str, LogFile(path): &LogFile, error: &io::Error) -> String {
    format!("{flag}: cannot write to the file: {error}: `{}`", path.display())
}

/// Tries the workers' files here, so that one message says what is wrong with them and not one from
/// each worker.
fn try_logs(config: &mut Config) -> Result<(), String> {
    logging::make_absolute(&mut config.log).map_err(|error| error.to_string())?;
    if let Some(file) = config.log.access_logfile.as_ref().filter(|_| config.log.access_log) {
        let opened = logging::try_access_file(file);
        opened.map_err(|error| explain_log("--access-logfile", file, &error))?;
    }
    if let Some(LogConfig::File(path)) = &config.log.config {
        let opened = std::fs::File::open(path);
        opened.map_err(|error| {
            format!("--log-config: cannot read the file: {error}: `{}`", path.display())
        })?;
    }
    Ok(())
}

/// The sockets that systemd has opened for this process, or else those that the settings name.
fn listen(config: &Config) -> Result<Vec<Listener>, BindError> {
    let bind = &config.bind;
    let variable = |name| process_environment(name).and_then(|value| value.into_string().ok());
    let (pid, fds) = (variable("LISTEN_PID"), variable("LISTEN_FDS"));
    let activated = activated(std::process::id(), pid.as_deref(), fds.as_deref())?;
    if activated.is_empty() {
        return bind_all(&bind.addresses, settings::backlog(bind));
    }
    let names = variable("LISTEN_FDNAMES").map(|names| format!(" ({names})")).unwrap_or_default();
    log::info!("Using {} socket(s) of the service manager{names}", activated.len());
    if tls::encrypts_activated(config) {
        return Ok(activated.into_iter().map(Listener::encrypted).collect());
    }
    Ok(activated)
}

fn options(
    config: &Config,
    env: Vec<(OsString, OsString)>,
    command: &[OsString],
) -> serde_json::Result<SupervisorOptions> {
    let mut command = command.iter().cloned();
    let workers = &config.workers;
    Ok(SupervisorOptions {
        workers: workers.workers,
        command: WorkerCommand {
            program: command.next().unwrap_or_default(),
            args: command.collect(),
            env,
        },
        setup: tls::setup(config)?,
        updates: None,
        shutdown_delay: workers.shutdown_delay,
        service_manager: None,
        timeout: Some(workers.timeout).filter(|timeout| !timeout.is_zero()),
        on_start: workers.on_start.clone(),
        preload: workers.preload,
        timeout_graceful_shutdown: Some(workers.timeout_graceful_shutdown),
        timeout_worker_startup: Some(workers.timeout_worker_startup),
        workers_max_rss: workers.workers_max_rss,
        memory_interval: MEMORY_INTERVAL,
        workers_lifetime: workers.workers_lifetime,
        reload: Some(config.reload.clone()).filter(|reload| reload.is_on),
        hooks: Hooks::default(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rsgi_config::WorkerCount;

    use super::*;

    fn config(line: &str) -> Config {
        load(line.split_whitespace().map(OsString::from), &Surroundings::default()).unwrap().config
    }

    #[test]
    fn what_cannot_change_is_named_and_set_back() {
        let first = config("m:a --port 1 --workers 2");
        let table: [(&str, &[&str]); 7] = [
            ("m:a --port 1 --workers 3", &[]),
            ("m:a --port 1 --reload", &["what is watched (--reload, --reload-...)"]),
            ("m:a --port 2", &["where to listen (--host, --port, --bind, --uds, --fd)"]),
            ("m:a --port 1 --backlog 7", &["--backlog"]),
            ("m:a", &["where to listen (--host, --port, --bind, --uds, --fd)"]),
            ("m:a --port 1 --ssl-handshake-timeout 1s", &["TLS (--ssl-..., --redirect-https)"]),
            (
                "m:a --port 1 --ssl-certfile /c",
                &[
                    "where to listen (--host, --port, --bind, --uds, --fd)",
                    "TLS (--ssl-..., --redirect-https)",
                ],
            ),
        ];
        for (line, expected) in table {
            let mut renewed = config(line);
            assert_eq!(keep_fixed(&first, &mut renewed), expected, "{line}");
            assert_eq!(renewed.bind, first.bind, "{line}");
            assert_eq!(renewed.tls, first.tls, "{line}");
        }
    }

    #[test]
    fn in_development_nobody_is_waited_for_and_nothing_is_preloaded() {
        let mut production = config("m:a --preload --shutdown-delay 5");
        let before = production.clone();
        assert_eq!(settle_for_development(&mut production), [""; 0]);
        assert_eq!(production, before);
        let mut useless = config("m:a --reload-dir src");
        assert_eq!(settle_for_development(&mut useless).len(), 1);

        let mut development = config("m:a --reload --preload --shutdown-delay 5 --reload-dir src");
        assert_eq!(settle_for_development(&mut development).len(), 1, "--preload");
        let workers = &development.workers;
        assert!(!workers.preload);
        assert_eq!(workers.shutdown_delay, Duration::ZERO);
        assert_eq!(workers.timeout_graceful_shutdown, DEVELOPMENT_GRACE);
        assert_eq!(workers.timeout_stream_shutdown, Some(Duration::ZERO));
        assert_eq!(development.reload.directories, [PathBuf::from("src")]);
        let once = development.clone();
        assert_eq!(settle_for_development(&mut development), [""; 0], "nothing is left to say");
        assert_eq!(development, once);

        let mut quick = config("m:a --reload --timeout-graceful-shutdown 0.2 --app-dir /");
        settle_for_development(&mut quick);
        assert_eq!(quick.workers.timeout_graceful_shutdown, Duration::from_millis(200));
        assert_eq!(quick.reload.directories, [PathBuf::from("."), PathBuf::from("/")]);
    }

    #[test]
    fn a_reload_reads_the_settings_again_and_a_mistake_in_them_is_its_end() {
        let first = config("m:a --workers 2");
        let is_wrong = Arc::new(AtomicBool::new(false));
        let read = {
            let is_wrong = Arc::clone(&is_wrong);
            move || {
                let workers = if is_wrong.load(Ordering::Relaxed) { "none" } else { "3" };
                let line = ["m:b", "--workers", workers];
                load(line.map(OsString::from), &Surroundings::default())
            }
        };
        let (renewed, _) = reload(&read, &first, &["python".into()]).unwrap();
        assert_eq!(renewed.workers, WorkerCount::Exactly(3));
        assert_eq!(renewed.setup["app"]["target"], "m:b");
        is_wrong.store(true, Ordering::Relaxed);
        let message = reload(&read, &first, &["python".into()]).unwrap_err();
        assert!(message.contains("--workers"), "{message}");
    }
}
