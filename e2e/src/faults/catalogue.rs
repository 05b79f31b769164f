//! The faults: id, part, promises, what happens.
//!
//! A new fault gets the next free number and goes to the end of its part. No number is ever changed
//! or used again. A test of the fault has the number in its name, with three digits: `f042_…`.

use super::{Fault, Part, Promise, faults, number};

faults! {
    F01, Reaching, [P3, P5], "Dex is down when the pod starts";
    F02, Reaching, [P2, P3], "Dex is killed and comes back, after seconds or hours";
    F03, Reaching, [P6], "The endpoint accepts the connection and never answers";
    F04, Reaching, [P6], "The answer arrives at one byte per second";
    F05, Reaching, [P1, P4], "The connection is reset or closed at any byte of the answer";
    F06, Reaching, [P4, P6], "An established connection is dropped silently, without FIN or RST";
    F11, Reaching, [P6], "One address family (IPv4 or IPv6) leads nowhere";
    F20, Reaching, [P6], "Packets are lost in the middle of a handshake";
    F21, Reaching, [P5], "All pods retry at the moment at which Dex returns";
    F154, Reaching, [P10, P11],
        "The endpoint is plain http: in the cluster, in a private network, or at a public address";

    F07, Dns, [P4, P5], "The host name does not exist, has no address, or its lookup fails";
    F08, Dns, [P6, P7], "The name server does not answer";
    F09, Dns, [P4], "The name needs search domains, `ndots` or an answer over TCP";
    F10, Dns, [P3], "The host's address or the name server changes while the program runs";
    F124, Dns, [P2, P3], "A is answered, and AAAA with NXDOMAIN, SERVFAIL, REFUSED or NOTIMP";
    F125, Dns, [P3, P6], "A is answered, and the query for AAAA is lost";
    F126, Dns, [P3], "The name is short, under any value of `ndots`";
    F127, Dns, [P3, P4], "The hosts file has long lines, upper case and comments";
    F128, Dns, [P3, P6], "Several name servers disagree, fail or do not answer";
    F129, Dns, [P3], "The search list has 2 kB and 32 domains";
    F130, Dns, [P3], "Name servers answer over TCP only";
    F131, Dns, [P3], "Answers are larger than 512 bytes or truncated, or the server does not know EDNS0";
    F132, Dns, [P3], "The host name ends with a dot";
    F133, Dns, [P4, P6, P11],
        "DNS messages are forged, malformed or endless; resolv.conf and hosts have any content";

    F12, Tls, [P3, P10], "The CA is rotated on disk";
    F13, Tls, [P10, P11], "The CA file is empty or truncated";
    F14, Tls, [P10], "A removed CA stays trusted through resumed TLS sessions";
    F15, Tls, [P10, P11],
        "Dex's certificate is expired, not yet valid, for another name, or from an unknown CA";
    F16, Tls, [P10, P11], "Dex's certificate looks expired or not yet valid, because this node's clock is wrong";
    F17, Tls, [P4, P11], "The server speaks plain http or TLS 1.1, or demands a client certificate";
    F134, Tls, [P3, P10], "The CA file holds the server's own certificate, which a CA issued";
    F135, Tls, [P10, P11], "A certificate has a critical extension that is not supported";
    F136, Tls, [P3], "P-521 is used in a certificate, in a signature, or as the only key exchange group";
    F137, Tls, [P10, P11], "A certificate has an RSA key that is too small";
    F138, Tls, [P9, P11], "The certificate chain is larger than 64 KiB";
    F139, Tls, [P3, P11],
        "The CA file has byte order marks, comments, or certificates joined without a line break";
    F140, Tls, [P10, P11], "The server's certificate is marked CA:TRUE";

    F18, Proxies, [P10, P11], "A proxy is configured that is down, refuses, or answers with a web page";
    F149, Proxies, [P3], "A proxy refuses CONNECT without a User-Agent header";
    F150, Proxies, [P3, P10], "Plain http goes through a proxy that allows CONNECT to port 443 only";
    F151, Proxies, [P3, P9], "The proxy is a SOCKS proxy";

    F19, Answers, [P10, P11], "The endpoint answers with a redirect";
    F22, Answers, [P5], "The answer is 429 with Retry-After in seconds";
    F23, Answers, [P5], "Retry-After is a date, from a server whose clock is wrong";
    F24, Answers, [P4, P5], "Retry-After is negative, huge or not a number";
    F25, Answers, [P1, P4], "The answer is 500, 502, 503 or 504, with or without a body";
    F26, Answers, [P1, P11], "The answer is 200 with a web page or an empty body, or 204";
    F27, Answers, [P1, P11], "The answer is 200 with an OAuth error in it";
    F28, Answers, [P1, P4],
        "The JSON is truncated, followed by more, nested deeply, or has a byte order mark or duplicate names";
    F29, Answers, [P4], "The body, or the list of its chunks, never ends";
    F30, Answers, [P4], "The body is compressed, although that was not asked for, and expands without bound";
    F31, Answers, [P1, P11], "`access_token` is missing, null, empty or a number";
    F32, Answers, [P1, P9], "The token has characters that are not allowed in an HTTP header";
    F33, Answers, [P1, P11], "`token_type` is not bearer";
    F34, Answers, [P11], "`issued_token_type` differs from the requested type";
    F35, Answers, [P2], "`expires_in` is missing, and the token does not name its expiry";
    F36, Answers, [P2], "`expires_in` is a string, or has a fraction or an exponent";
    F37, Answers, [P1, P2], "`expires_in` is zero, negative, a word or null";
    F38, Answers, [P4], "`expires_in` is larger than any number type";
    F39, Answers, [P1, P5], "Issued tokens are expired or nearly expired, again and again";
    F40, Answers, [P5, P11], "The same token is issued again";
    F41, Answers, [P2],
        "`exp` is missing, in milliseconds, a string, before `iat`, or disagrees with `expires_in`";
    F42, Answers, [P4],
        "The token looks like a JSON Web Token and is none: five parts, no signature, a huge header";
    F43, Answers, [P11], "The token is valid, and of a wrong identity";
    F44, Answers, [P4], "The answer has interim responses, HTTP/1.0, folded or huge headers, or HTTP/2";
    F141, Answers, [P3, P4], "Headers are folded, malformed or very many";
    F142, Answers, [P3], "Content-Encoding names a coding that the body does not have";
    F143, Answers, [P3], "The answer has an empty error beside a token";
    F144, Answers, [P3, P11], "A proxy turns a 500 of Dex into a redirect to a login page";
    F145, Answers, [P3], "An ingress answers 404 while Dex has no ready pod";
    F146, Answers, [P3, P11], "An ingress, a gateway or a service mesh answers with a page of its own";
    F147, Answers, [P11], "A server that expects TLS says so in an answer of its own";

    F45, Dex, [P3, P5], "Dex cannot fetch the cluster's keys: 401 access_denied";
    F46, Dex, [P3, P5], "Dex could not open its connector: 400 invalid_request";
    F47, Dex, [P3, P11], "The client does not exist yet, or its secret was changed";
    F48, Dex, [P4, P5, P11], "A configuration stays wrong for a month";
    F49, Dex, [P1], "Dex rotates its signing keys";
    F50, Dex, [P13], "Dex loses its signing keys";
    F51, Dex, [P4, P5], "Another version of Dex answers with other error codes";
    F52, Dex, [P2], "The lifetime of issued tokens is changed";
    F53, Dex, [P2], "The user's groups change at the identity provider";
    F54, Dex, [P11], "Dex does not check the audience of the subject token";
    F55, Dex, [], "The pod is deleted, and its issued token stays valid",
        untested: "no program in that pod can prevent it; docs/security.md recommends short lifetimes";
    F148, Dex, [P5, P13], "Published keys come from a cache or from another replica";

    F56, Subject, [P3, P4], "The file is missing at startup";
    F57, Subject, [P2], "The file is removed";
    F58, Subject, [P1, P11], "The file is empty";
    F59, Subject, [P1, P4], "The file is written byte by byte";
    F60, Subject, [P4], "The file is replaced between two steps of reading it";
    F61, Subject, [P4, P9], "The file is huge, binary or in another encoding";
    F62, Subject, [P4, P11], "The token has a newline, a byte order mark or blanks around it";
    F63, Subject, [P4], "The path is a FIFO, a socket, a directory or a device";
    F64, Subject, [P11], "This uid may not read the file";
    F65, Subject, [P3, P11], "The token expired, because the kubelet does not replace it";
    F66, Subject, [P2, P3], "The file is replaced between two attempts";
    F67, Subject, [P4, P11], "The token is not valid yet";
    F68, Subject, [P11], "The file is mounted by subPath and never replaced";
    F69, Subject, [P4], "The kernel has no inotify watches left";
    F70, Subject, [P4, P5], "The ServiceAccount is deleted";

    F71, Output, [P3, P5], "The directory is missing at startup";
    F72, Output, [P1, P3], "The directory is removed and created again";
    F73, Output, [P1, P11], "The volume becomes read-only, or this uid may not write to it";
    F74, Output, [P1, P8], "The volume is full or has no inodes left";
    F75, Output, [P1], "The directory for temporary files is on another file system";
    F76, Output, [P1, P10], "A peer puts a symbolic link at the path";
    F77, Output, [P4, P11], "The path is a directory";
    F78, Output, [P4], "The path is a FIFO or a socket";
    F79, Output, [P1, P4], "The name of the temporary file is guessed or taken";
    F80, Output, [P1, P11], "The file is itself a mount point";
    F81, Output, [P1], "A reader mounts the file instead of its directory";
    F82, Output, [P1], "The umask, mode or owner changes";
    F83, Output, [P1, P8], "SIGKILL arrives at any step of a write";
    F84, Output, [P1, P8], "The power fails during a write";
    F85, Output, [P1, P8], "A call of fsync or close fails";
    F86, Output, [P4, P7], "The disk stalls";
    F87, Output, [P1, P5], "Two sidecars write the same file";
    F88, Output, [P1, P3], "Another process edits, truncates or removes the file";
    F89, Output, [P1], "Readers read the file all the time";
    F90, Output, [P1, P3], "A network file system returns its own errors";
    F91, Output, [P4], "A security module of the kernel refuses a system call";
    F155, Output, [P1, P11], "The volume refuses chmod or chown";
    F156, Output, [P1], "The volume refuses fsync of a file";
    F157, Output, [P1, P8], "The volume stores a file only when it is closed";
    F158, Output, [P1, P11], "The volume does not support rename";
    F159, Output, [P2, P11],
        "The file is overwritten in place, and its mode forbids its owner to write";

    F92, Time, [P12], "The wall clock steps forward";
    F93, Time, [P12], "The wall clock steps backward";
    F94, Time, [P3, P12], "The machine boots in 1970 and learns the time later";
    F95, Time, [P12], "The machine is suspended";
    F96, Time, [P5, P12], "The process is stopped until after the token expired";
    F97, Time, [P2, P12], "The server's clock is ahead or behind";
    F98, Time, [P4], "Times and durations overflow their number types";
    F99, Time, [P4, P5], "The process gets almost no processor time";

    F100, Process, [P7], "The program is PID 1";
    F101, Process, [P1, P7], "SIGTERM arrives in the middle of anything";
    F102, Process, [P4, P7], "SIGHUP, SIGUSR1, SIGPIPE or a second SIGTERM arrives";
    F103, Process, [P4], "Child processes are left that nobody waits for";
    F104, Process, [P4], "A panic leaves a process that does nothing";
    F105, Process, [P4, P8], "The process is killed because it is out of memory";
    F106, Process, [P4], "No file descriptor is left";
    F107, Process, [P4], "No thread can be created";
    F108, Process, [P4], "Nobody reads the log, or it is closed";
    F121, Process, [P4],
        "The root is read-only; the uid is arbitrary; /tmp, /proc, passwd or IPv6 is missing";
    F122, Process, [P9, P11], "An answer contains what looks like log lines";
    F123, Process, [P9], "A peer with the same uid inspects the process";

    F109, Operations, [P5], "The container is restarted in a loop";
    F110, Operations, [P11], "Health reports something other than the state of the token";
    F111, Operations, [P1], "The app starts before there is a token";
    F112, Operations, [P1, P2], "The app needs a token while the pod shuts down";
    F113, Operations, [P3, P4], "An outage lasts longer than the token";
    F114, Operations, [P5], "An error path has no delay";
    F115, Operations, [P5], "A fleet refreshes in step";
    F116, Operations, [P5], "Jitter is the same in every pod";
    F117, Operations, [P5], "Delays shrink to nothing";
    F118, Operations, [P11], "An outage fills the log";
    F160, Operations, [P4, P11], "An attempt, a write or a lookup hangs";

    F119, Settings, [P11], "Settings are wrong";
    F120, Settings, [P3], "The file of a form field changes while the program runs";
    F152, Settings, [P3, P11], "Values end with a line break; files begin with a byte order mark";
    F153, Settings, [P11], "A value contains a reference to a variable that Kubernetes did not expand";
}
