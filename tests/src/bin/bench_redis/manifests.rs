//! The objects of the benchmark: two servers, a repository for each way out, a Task for each way in.

use std::path::Path;

use coffer_tests::redis_server::RedisServer;

use crate::SECRET;

pub(crate) fn manifests(source: &RedisServer, target: &RedisServer, folder: &Path) -> String {
    let mut all = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: bench}}\n---\napiVersion: v1\nkind: Secret\n\
         metadata: {{name: storage, namespace: bench}}\nstringData: {{RESTIC_PASSWORD: {SECRET}}}\n"
    );
    let binding = |name: &str, port: u16| {
        format!(
            "---\napiVersion: appcatalog.appscode.com/v1alpha1\nkind: AppBinding\n\
             metadata: {{name: {name}, namespace: bench}}\n\
             spec: {{type: redis, clientConfig: {{url: \"redis://127.0.0.1:{port}\"}}}}\n"
        )
    };
    all += &binding("source", source.port);
    for load in ["keys", "replica"] {
        all += &binding(load, target.port);
        all += &format!(
            "---\napiVersion: stash.appscode.com/v1beta1\nkind: Task\nmetadata: {{name: restore-{load}}}\n\
             spec: {{steps: [{{name: redis-restore-7.0.5, params: [{{name: load, value: {load}}}]}}]}}\n"
        );
    }
    for (name, params) in [
        ("replication", "{name: method, value: replication}"),
        ("scan", "{name: method, value: scan}"),
        ("canonical", "{name: order, value: canonical}"),
    ] {
        all += &format!(
            "---\napiVersion: stash.appscode.com/v1alpha1\nkind: Repository\n\
             metadata: {{name: {name}, namespace: bench}}\n\
             spec: {{backend: {{storageSecretName: storage, local: {{mountPath: /backup, \
             hostPath: {{path: \"{}\"}}}}}}}}\n\
             ---\napiVersion: stash.appscode.com/v1beta1\nkind: BackupConfiguration\n\
             metadata: {{name: {name}, namespace: bench}}\n\
             spec:\n  schedule: \"0 0 1 1 *\"\n  task: {{name: redis-backup-7.0.5, params: [{params}]}}\n\
             \x20 repository: {{name: {name}}}\n\
             \x20 target: {{ref: {{apiVersion: appcatalog.appscode.com/v1alpha1, kind: AppBinding, name: source}}}}\n\
             \x20 retentionPolicy: {{name: some, keepLast: 9, prune: false}}\n",
            folder.join(format!("repository-{name}")).display()
        );
    }
    all
}
