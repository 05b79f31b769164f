//! The token file, and what follows when it is replaced.

use super::{HowToSee, NOTHING};

pub(super) const DIRECTORY_MISSING: HowToSee = HowToSee {
    look: "The message has the path. Its directory must be the `mountPath` of a volume in the sidecar's \
           container, or below one.",
    commands: &["kubectl get pod POD -o yaml | grep -E -A1 'dex_access_token_file|mountPath'"],
    ..NOTHING
};

pub(super) const NOT_PERMITTED: HowToSee = HowToSee {
    look: "The message has the uid and gid of the process, and owner and mode of the directory and the file. \
           The listing shows the same from another container.",
    commands: &["kubectl exec POD -c APP -- ls -lan DIRECTORY"],
    ..NOTHING
};

pub(super) const READ_ONLY: HowToSee = HowToSee {
    look: "The mount has the option `ro` in the sidecar's container. A volume that the kernel made read-only \
           after an error shows in the node's kernel log.",
    commands: &["kubectl get pod POD -o yaml | grep -B2 -A2 'readOnly: true'"],
    ..NOTHING
};

pub(super) const DISK_FULL: HowToSee = HowToSee {
    look: "`Use%` or `IUse%` is 100 %.",
    commands: &["kubectl exec POD -c APP -- df -h DIRECTORY", "kubectl exec POD -c APP -- df -i DIRECTORY"],
    ..NOTHING
};

pub(super) const IS_A_DIRECTORY: HowToSee = HowToSee {
    look: "The first letter of the listing is `d`. Kubernetes creates a directory at the `mountPath` of a \
           volume that is mounted where the file should be.",
    commands: &["kubectl exec POD -c APP -- ls -ldn TOKEN"],
    ..NOTHING
};

pub(super) const IS_A_MOUNT: HowToSee = HowToSee {
    look: "The path of the token file is itself the `mountPath` of a volume, with a `subPath`.",
    commands: &["kubectl get pod POD -o yaml | grep -E -A2 'mountPath|subPath'"],
    ..NOTHING
};

pub(super) const RENAME_UNSUPPORTED: HowToSee = HowToSee {
    look: "The message has the error of `renameat`. The second column is the type of the file system; object \
           stores that are mounted with FUSE often lack rename.",
    commands: &["kubectl exec POD -c APP -- df -hT DIRECTORY"],
    ..NOTHING
};

pub(super) const MODE_REFUSED: HowToSee = HowToSee {
    look: "The message has the mode that the file got. The second column is the type of the file system; SMB \
           and FAT have one mode for all files.",
    commands: &[
        "kubectl exec POD -c APP -- ls -lan DIRECTORY",
        "kubectl exec POD -c APP -- df -hT DIRECTORY",
    ],
    ..NOTHING
};

pub(super) const GROUP_REFUSED: HowToSee = HowToSee {
    look: "The message has the uid and gid of the process. Only root, or a member of a group, may give a file \
           to that group.",
    commands: &[
        "kubectl exec POD -c APP -- ls -lan DIRECTORY",
        "kubectl get pod POD -o yaml | grep -E -A3 'runAsGroup|fsGroup|supplementalGroups'",
    ],
    ..NOTHING
};

pub(super) const FAILED: HowToSee = HowToSee {
    look: "The message has the system call and its error. `Input/output error` and `Stale file handle` come \
           from the volume, not from the pod.",
    commands: &[
        "kubectl exec POD -c APP -- df -hT DIRECTORY",
        "kubectl debug node/NODE -it --image=IMAGE --profile=sysadmin -- dmesg",
    ],
    ..NOTHING
};

pub(super) const ACTION_FAILED: HowToSee = HowToSee {
    look: "The log line has the action, the error and the fix. The token file holds the new token, and \
           readiness does not change. The action is repeated until it works.",
    commands: &["kubectl logs POD -c dexsidecar | grep 'action'"],
    ..NOTHING
};
