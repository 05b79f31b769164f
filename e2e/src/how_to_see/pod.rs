//! Settings and the subject token: what `kubectl` and the pod's file system show.

use super::{HowToSee, NOTHING};

pub(super) const WRONG_SETTINGS: HowToSee = HowToSee {
    look: "The container exits with code 78 before it does anything. Its log and its termination message name \
           every wrong setting at once, each with its fix.",
    commands: &["kubectl logs POD -c dexsidecar --previous", "kubectl describe pod POD"],
    ..NOTHING
};

pub(super) const FORM_FILE_UNREADABLE: HowToSee = HowToSee {
    look: "The message has the variable, the path and the reason. In the events of the pod, `FailedMount` names \
           a Secret or ConfigMap that does not exist.",
    commands: &["kubectl describe pod POD", "kubectl exec POD -c APP -- ls -lnL FILE"],
    ..NOTHING
};

pub(super) const SUBJECT_TOKEN_REQUEST_FAILED: HowToSee = HowToSee {
    look: "The message has the status of GitHub's answer, or the reason why there is none. In a step of the job, the command prints 200 if GitHub gives a token.",
    commands: &[
        "curl -so /dev/null -w '%{http_code}' -H \"Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN\" \"$ACTIONS_ID_TOKEN_REQUEST_URL\"",
    ],
    ..NOTHING
};

pub(super) const SUBJECT_TOKEN_MISSING: HowToSee = HowToSee {
    look: "The message has the path. It must be `mountPath` of the volume in the sidecar's container, followed \
           by `path` of the volume's `serviceAccountToken` source.",
    commands: &[
        "kubectl get pod POD -o yaml | grep -E 'dex_file_subject_token|serviceAccountToken|mountPath| path:' -A1",
    ],
    ..NOTHING
};

pub(super) const SUBJECT_TOKEN_UNREADABLE: HowToSee = HowToSee {
    look: "The message has the path, the error of the system call and the uid of the process. The listing has \
           mode, uid and gid of the file.",
    commands: &["kubectl exec POD -c APP -- ls -lnL SUBJECT"],
    ..NOTHING
};

pub(super) const SUBJECT_TOKEN_NOT_A_FILE: HowToSee = HowToSee {
    look: "The first letter of the listing is `d` for a directory, `p` for a FIFO, `s` for a socket and `c` \
           for a device. A file has `-`.",
    commands: &["kubectl exec POD -c APP -- ls -ldnL SUBJECT"],
    ..NOTHING
};

pub(super) const SUBJECT_TOKEN_EMPTY: HowToSee = HowToSee {
    look: "The size is 0, or the file holds only blanks and line breaks.",
    commands: &["kubectl exec POD -c APP -- wc -c SUBJECT"],
    ..NOTHING
};

pub(super) const SUBJECT_TOKEN_TOO_LARGE: HowToSee = HowToSee {
    look: "The size is above 65,536. A ServiceAccount token has about 1,000 bytes.",
    commands: &["kubectl exec POD -c APP -- wc -c SUBJECT"],
    ..NOTHING
};

pub(super) const SUBJECT_TOKEN_MALFORMED: HowToSee = HowToSee {
    look: "The first command prints `eyJ` and the second prints 2 for a ServiceAccount token. Neither shows the \
           token.",
    commands: &[
        "kubectl exec POD -c APP -- head -c 3 SUBJECT",
        "kubectl exec POD -c APP -- sh -c 'tr -cd . < SUBJECT | wc -c'",
    ],
    ..NOTHING
};

pub(super) const SUBJECT_TOKEN_EXPIRED: HowToSee = HowToSee {
    look: "The first number is the expiry of the token in seconds since 1970, the second is now. With `subPath` \
           in the mount, the kubelet's new tokens do not reach the container.",
    commands: &[
        "kubectl exec POD -c APP -- sh -c \"cut -d. -f2 SUBJECT | tr _- /+ | base64 -d 2>/dev/null | \
         grep -o '\\\"exp\\\":[0-9]*'; date +%s\"",
        "kubectl get pod POD -o yaml | grep subPath",
    ],
    ..NOTHING
};
