/* A storm of TFTP clients on loopback, as strict as firmware and stricter: every byte is compared with the file given.
 *
 *     cc -O2 -o tftpstorm tftpstorm.c && ./tftpstorm --port 6969 --file NAME --compare PATH --clients 1000
 *
 * Reads only (RFC 1350, 2347, 2348, 2349, 7440), one thread, one socket and one loopback address for each client. What
 * went well and what did not is told as JSON; the exit status is 0 when every client has the whole file, 1 when not,
 * 2 for wrong usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RRQ = 1, DATA = 3, ACK = 4, ERROR = 5, OACK = 6 };
enum { MOST_CLIENTS = 20000, MOST_BLOCK = 65464, AT_ONCE = 32, PACKET = MOST_BLOCK + 4 };
static const double TICK = 0.02, LONGEST_FACTOR = 4;

static struct {
    const char *host, *file, *compare, *source;
    int port, clients, half_open, blksize, windowsize, retries;
    double timeout, limit, loss_in, loss_out;
    uint64_t seed;
} want = { .host = "127.0.0.1", .source = "127.16.0.1", .port = 69, .clients = 1, .blksize = 1428, .windowsize = 1,
           .retries = 8, .timeout = 1, .limit = 60, .seed = 1 };

static struct {
    int completed, wrong, timed_out, refused, odd, unfinished, half_open_answered;
    uint64_t bytes, data, acks, repeats, gaps, requests_resent, acks_resent, lost_in, lost_out;
    char first_problem[160];
} told;

struct client {
    int fd, running, heard, tries, since_ack, gap_told, blksize, windowsize, number;
    uint32_t next; /* the block that is waited for, counted on past 65535 */
    uint64_t have;
    double began, due, pause;
};

static struct sockaddr_in server;
static const unsigned char *content;
static uint64_t size, dice;
static double *durations, *firsts;
static int heard_from, poller;
static unsigned char (*packets)[PACKET];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *format, ...)
{
    va_list rest;
    va_start(rest, format);
    fputs("tftpstorm: ", stderr);
    vfprintf(stderr, format, rest);
    fputc('\n', stderr);
    va_end(rest);
    exit(2);
}

static void problem(int *count, const char *format, ...)
{
    va_list rest;
    (*count)++;
    if (told.first_problem[0])
        return;
    va_start(rest, format);
    vsnprintf(told.first_problem, sizeof told.first_problem, format, rest);
    va_end(rest);
    for (char *c = told.first_problem; *c; c++)
        if (*c == '"' || *c == '\\' || *c < ' ' || *c > '~')
            *c = '?';
}

/* splitmix64: whether a datagram gets lost on its way. */
static int lost(double percent)
{
    if (percent <= 0)
        return 0;
    uint64_t z = (dice += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53 * 100 < percent;
}

static void give(struct client *c, const void *packet, size_t length)
{
    if (lost(want.loss_out)) {
        told.lost_out++;
        return;
    }
    if (c->heard)
        send(c->fd, packet, length, 0);
    else
        sendto(c->fd, packet, length, 0, (struct sockaddr *)&server, sizeof server);
}

static void send_request(struct client *c)
{
    char packet[1024] = { 0, RRQ };
    size_t at = 2;
    at += (size_t)sprintf(packet + at, "%s", want.file) + 1;
    at += (size_t)sprintf(packet + at, "octet") + 1;
    at += (size_t)sprintf(packet + at, "tsize%c0", 0) + 1;
    if (want.blksize != 512)
        at += (size_t)sprintf(packet + at, "blksize%c%d", 0, want.blksize) + 1;
    if (want.windowsize != 1)
        at += (size_t)sprintf(packet + at, "windowsize%c%d", 0, want.windowsize) + 1;
    give(c, packet, at);
}

static void send_ack(struct client *c)
{
    uint32_t block = c->next - 1;
    unsigned char packet[4] = { 0, ACK, (unsigned char)(block >> 8), (unsigned char)block };
    c->since_ack = 0;
    told.acks++;
    give(c, packet, sizeof packet);
}

static void end(struct client *c)
{
    close(c->fd);
    c->running = 0;
}

static void refuse(struct client *c, const char *why)
{
    unsigned char packet[64] = { 0, ERROR, 0, 8 };
    strcpy((char *)packet + 4, why);
    send(c->fd, packet, 5 + strlen(why), 0);
    problem(&told.odd, "client %d: %s", c->number, why);
    end(c);
}

/* The next of the strings in an OACK; NULL when there is none that ends. */
static const char *string(const unsigned char **at, const unsigned char *stop)
{
    const unsigned char *from = *at, *nul = from < stop ? memchr(from, 0, (size_t)(stop - from)) : NULL;
    if (!nul)
        return NULL;
    *at = nul + 1;
    return (const char *)from;
}

/* Why this OACK must be refused; NULL when it holds only what was asked for. */
static const char *take_oack(struct client *c, const unsigned char *at, const unsigned char *stop)
{
    while (at < stop) {
        const char *name = string(&at, stop), *text = name ? string(&at, stop) : NULL;
        if (!text)
            return "OACK that does not end";
        long value = atol(text);
        if (!strcasecmp(name, "blksize") && value >= 8 && value <= want.blksize)
            c->blksize = (int)value;
        else if (!strcasecmp(name, "windowsize") && value >= 1 && value <= want.windowsize)
            c->windowsize = (int)value;
        else if (strcasecmp(name, "tsize") || (uint64_t)value != size)
            return "OACK with an option that was not asked for, or out of bounds";
    }
    return NULL;
}

static void take_data(struct client *c, const unsigned char *data, size_t length, uint16_t block)
{
    uint16_t ahead = (uint16_t)(block - c->next);
    if (ahead) { /* a block again, or one from behind a gap: RFC 7440, section 4 */
        if (ahead < 0x8000)
            told.gaps++;
        else
            told.repeats++;
        if (ahead == 0xFFFF || (ahead < 0x8000 && !c->gap_told))
            send_ack(c);
        c->gap_told = c->gap_told || ahead < 0x8000;
        return;
    }
    told.data++;
    if (length > (size_t)c->blksize || c->have + length > size || memcmp(content + c->have, data, length)) {
        problem(&told.wrong, "client %d: wrong bytes in block %u", c->number, c->next);
        end(c);
        return;
    }
    c->have += length;
    told.bytes += length;
    c->next++;
    c->gap_told = 0;
    c->tries = 0;
    c->pause = want.timeout;
    if (length == (size_t)c->blksize) {
        if (++c->since_ack >= c->windowsize)
            send_ack(c);
        return;
    }
    send_ack(c);
    end(c);
    if (c->have != size)
        problem(&told.wrong, "client %d: %llu of %llu bytes", c->number, (unsigned long long)c->have, (unsigned long long)size);
    else
        durations[told.completed++] = now() - c->began;
}

static void take(struct client *c, const unsigned char *packet, size_t length, const struct sockaddr_in *from)
{
    if (lost(want.loss_in)) {
        told.lost_in++;
        return;
    }
    if (length < 4 || from->sin_addr.s_addr != server.sin_addr.s_addr) {
        problem(&told.odd, "client %d: %zu bytes from %s, which are no answer", c->number, length, inet_ntoa(from->sin_addr));
        end(c);
        return;
    }
    if (!c->heard) { /* from here on the kernel drops what strangers send */
        c->heard = 1;
        firsts[heard_from++] = now() - c->began;
        connect(c->fd, (const struct sockaddr *)from, sizeof *from);
    }
    uint16_t opcode = (uint16_t)(packet[0] << 8 | packet[1]), block = (uint16_t)(packet[2] << 8 | packet[3]);
    if (opcode == DATA) {
        take_data(c, packet + 4, length - 4, block);
    } else if (opcode == OACK) {
        const char *why = c->next > 1 ? NULL : take_oack(c, packet + 2, packet + length);
        if (why)
            refuse(c, why);
        else if (c->next == 1)
            send_ack(c);
    } else if (opcode == ERROR) {
        problem(&told.refused, "client %d: ERROR %u %.*s", c->number, block, (int)(length - 4), packet + 4);
        end(c);
    } else {
        refuse(c, "unexpected packet");
    }
}

static void readable(struct client *c)
{
    static struct mmsghdr messages[AT_ONCE];
    static struct iovec places[AT_ONCE];
    static struct sockaddr_in from[AT_ONCE];
    int room = c->windowsize < AT_ONCE ? c->windowsize : AT_ONCE;
    for (int i = 0; i < room; i++) {
        places[i] = (struct iovec){ packets[i], PACKET };
        messages[i].msg_hdr = (struct msghdr){ .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &places[i], .msg_iovlen = 1 };
    }
    int got = recvmmsg(c->fd, messages, (unsigned)room, MSG_DONTWAIT, NULL);
    if (got < 0 && errno != EAGAIN && errno != EINTR) {
        problem(&told.refused, "client %d: %s", c->number, strerror(errno));
        end(c);
    }
    for (int i = 0; i < got && c->running; i++)
        take(c, packets[i], messages[i].msg_len, &from[i]);
    c->due = now() + c->pause;
}

static void expire(struct client *c, double at)
{
    if (c->tries++ >= want.retries) {
        problem(&told.timed_out, "client %d: silence after %llu bytes", c->number, (unsigned long long)c->have);
        end(c);
        return;
    }
    if (c->heard) {
        told.acks_resent++;
        send_ack(c);
    } else {
        told.requests_resent++;
        send_request(c);
    }
    c->gap_told = 0;
    c->pause = c->pause * 2 < want.timeout * LONGEST_FACTOR ? c->pause * 2 : want.timeout * LONGEST_FACTOR;
    c->due = at + c->pause;
}

static void open_client(struct client *c, int number)
{
    struct sockaddr_in own = { .sin_family = AF_INET };
    inet_pton(AF_INET, want.source, &own.sin_addr);
    own.sin_addr.s_addr = htonl(ntohl(own.sin_addr.s_addr) + (uint32_t)number);
    *c = (struct client){ .number = number, .running = 1, .blksize = 512, .windowsize = 1, .next = 1, .pause = want.timeout };
    c->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || bind(c->fd, (struct sockaddr *)&own, sizeof own))
        die("no socket for client %d: %s (ulimit -n?)", number, strerror(errno));
}

/* Ask, wait for the answer, never acknowledge it: what a machine that was reset leaves behind. */
static void leave_half_open(struct client *some)
{
    unsigned char packet[PACKET];
    for (double begin = now(), ask = 0; now() < begin + 5 && told.half_open_answered < want.half_open; usleep(2000)) {
        int again = now() >= ask;
        ask = again ? now() + 1 : ask;
        for (int i = 0; i < want.half_open; i++) {
            if (!some[i].heard && recv(some[i].fd, packet, sizeof packet, 0) > 0)
                told.half_open_answered += some[i].heard = 1;
            if (!some[i].heard && again)
                send_request(&some[i]);
        }
    }
}

static int poll_once(struct client *all, int milliseconds)
{
    struct epoll_event events[256];
    static double tick;
    int ready = epoll_wait(poller, events, 256, milliseconds);
    for (int i = 0; i < ready; i++)
        if (((struct client *)events[i].data.ptr)->running)
            readable(events[i].data.ptr);
    double at = now();
    if (at < tick)
        return 0;
    tick = at + TICK;
    int running = 0;
    for (int i = 0; i < want.clients; i++) {
        if (all[i].running && all[i].began && at >= all[i].due)
            expire(&all[i], at);
        running += all[i].running;
    }
    return running == 0;
}

/* How long it took until the last client was done. */
static double storm(struct client *all)
{
    double begin = now();
    for (int i = 0; i < want.clients; i++) {
        struct epoll_event wanted = { .events = EPOLLIN, .data.ptr = &all[i] };
        epoll_ctl(poller, EPOLL_CTL_ADD, all[i].fd, &wanted);
        all[i].began = now();
        all[i].due = all[i].began + all[i].pause;
        send_request(&all[i]);
        if (i % 64 == 63)
            poll_once(all, 0); /* answers come in while others still ask */
    }
    double last = begin;
    while (now() - begin < want.limit) {
        int before = told.completed;
        int over = poll_once(all, (int)(TICK * 1000));
        if (told.completed != before)
            last = now();
        if (over)
            break;
    }
    for (int i = 0; i < want.clients; i++)
        if (all[i].running) {
            problem(&told.unfinished, "client %d: not done within the limit", i);
            end(&all[i]);
            last = now();
        }
    return (told.completed == want.clients ? last : now()) - begin;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double at_percent(const double *sorted, int count, int percent)
{
    int at = (count * percent + 99) / 100 - 1; /* nearest rank */
    return count ? sorted[at < 0 ? 0 : at] : 0;
}

static void tell(double wall)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    qsort(durations, (size_t)told.completed, sizeof *durations, by_size);
    qsort(firsts, (size_t)heard_from, sizeof *firsts, by_size);
    printf("{\"clients\": %d, \"completed\": %d, \"wrong\": %d, \"timed_out\": %d, \"refused\": %d, \"odd\": %d, \"unfinished\": %d,\n",
           want.clients, told.completed, told.wrong, told.timed_out, told.refused, told.odd, told.unfinished);
    printf(" \"bytes\": %llu, \"wall\": %.4f, \"p50\": %.4f, \"p99\": %.4f, \"max\": %.4f, \"first_p99\": %.4f,\n",
           (unsigned long long)told.bytes, wall, at_percent(durations, told.completed, 50),
           at_percent(durations, told.completed, 99), at_percent(durations, told.completed, 100),
           at_percent(firsts, heard_from, 99));
    printf(" \"data\": %llu, \"acks\": %llu, \"repeats\": %llu, \"gaps\": %llu, \"requests_resent\": %llu, \"acks_resent\": %llu,\n",
           (unsigned long long)told.data, (unsigned long long)told.acks, (unsigned long long)told.repeats,
           (unsigned long long)told.gaps, (unsigned long long)told.requests_resent, (unsigned long long)told.acks_resent);
    printf(" \"lost_in\": %llu, \"lost_out\": %llu, \"half_open_answered\": %d, \"own_cpu\": %.3f, \"first_problem\": \"%s\"}\n",
           (unsigned long long)told.lost_in, (unsigned long long)told.lost_out, told.half_open_answered,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6,
           told.first_problem);
}

static const char USAGE[] =
    "usage: tftpstorm --port PORT --file NAME --compare PATH [options]\n"
    "  --host ADDRESS      of the server, in 127.0.0.0/8; no other is asked   (127.0.0.1)\n"
    "  --clients N         at once, each from an address of its own           (1)\n"
    "  --source ADDRESS    of the first client, the next one higher for each  (127.16.0.1)\n"
    "  --blksize N         asked for; 512: not asked for                      (1428)\n"
    "  --windowsize N      asked for; 1: not asked for                        (1)\n"
    "  --timeout SECONDS   before the first resend, doubling up to 4 times    (1)\n"
    "  --retries N         in a row, then a client gives up                   (8)\n"
    "  --limit SECONDS     for all of it                                      (60)\n"
    "  --loss-in PERCENT   of what the server sent      --loss-out PERCENT    of what the clients send\n"
    "  --seed N            of the losses                                      (1)\n"
    "  --half-open N       sessions beside, that never acknowledge anything   (0)\n";

static double number(const char *name, const char *text, double least, double most)
{
    char *stop;
    double value = strtod(text, &stop);
    if (!*text || *stop || !(value >= least && value <= most))
        die("--%s %s: a number from %g to %g", name, text, least, most);
    return value;
}

static uint32_t loopback(const char *name, const char *text)
{
    struct in_addr address;
    if (inet_pton(AF_INET, text, &address) != 1 || ntohl(address.s_addr) >> 24 != 127)
        die("--%s %s: only addresses in 127.0.0.0/8; this program floods whom it asks", name, text);
    return ntohl(address.s_addr);
}

static void take_option(const char *name, const char *text)
{
    if (!strcmp(name, "host")) want.host = text;
    else if (!strcmp(name, "file")) want.file = text;
    else if (!strcmp(name, "compare")) want.compare = text;
    else if (!strcmp(name, "source")) want.source = text;
    else if (!strcmp(name, "port")) want.port = (int)number(name, text, 1, 65535);
    else if (!strcmp(name, "clients")) want.clients = (int)number(name, text, 1, MOST_CLIENTS);
    else if (!strcmp(name, "half-open")) want.half_open = (int)number(name, text, 0, MOST_CLIENTS);
    else if (!strcmp(name, "blksize")) want.blksize = (int)number(name, text, 8, MOST_BLOCK);
    else if (!strcmp(name, "windowsize")) want.windowsize = (int)number(name, text, 1, 65535);
    else if (!strcmp(name, "retries")) want.retries = (int)number(name, text, 0, 1000);
    else if (!strcmp(name, "timeout")) want.timeout = number(name, text, 0.01, 255);
    else if (!strcmp(name, "limit")) want.limit = number(name, text, 0.1, 3600);
    else if (!strcmp(name, "loss-in")) want.loss_in = number(name, text, 0, 90);
    else if (!strcmp(name, "loss-out")) want.loss_out = number(name, text, 0, 90);
    else if (!strcmp(name, "seed")) want.seed = (uint64_t)number(name, text, 0, 1e15);
}

static void take_arguments(int count, char **words)
{
    static const char *const NAMES[] = { "host", "file", "compare", "source", "port", "clients", "half-open", "blksize",
        "windowsize", "retries", "timeout", "limit", "loss-in", "loss-out", "seed" };
    enum { MANY = sizeof NAMES / sizeof *NAMES };
    struct option options[MANY + 2] = { { "help", no_argument, NULL, 'h' } };
    for (int i = 0; i < MANY; i++)
        options[i + 1] = (struct option){ NAMES[i], required_argument, NULL, 1 };
    for (int each, at = 0; (each = getopt_long(count, words, "h", options, &at)) != -1;) {
        if (each == 'h') {
            fputs(USAGE, stdout);
            exit(0);
        }
        if (each != 1)
            die("see --help");
        take_option(options[at].name, optarg);
    }
    if (optind != count || !want.file || !want.compare || strlen(want.file) > 400)
        die("--file (up to 400 bytes) and --compare are needed; see --help");
    server = (struct sockaddr_in){ AF_INET, htons((uint16_t)want.port), { htonl(loopback("host", want.host)) }, { 0 } };
    if ((loopback("source", want.source) + (uint32_t)(want.clients + want.half_open)) >> 24 != 127)
        die("--source %s: the clients' addresses would leave 127.0.0.0/8", want.source);
}

static void read_file(void)
{
    struct stat state;
    int fd = open(want.compare, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &state) || !S_ISREG(state.st_mode) || !state.st_size)
        die("--compare %s: not a file that can be read, or empty", want.compare);
    size = (uint64_t)state.st_size;
    content = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (content == MAP_FAILED)
        die("--compare %s: %s", want.compare, strerror(errno));
    close(fd);
}

int main(int count, char **words)
{
    take_arguments(count, words);
    read_file();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int all = want.clients + want.half_open;
    struct client *clients = calloc((size_t)all, sizeof *clients);
    durations = calloc((size_t)want.clients, sizeof *durations);
    firsts = calloc((size_t)want.clients, sizeof *firsts);
    packets = calloc(AT_ONCE, sizeof *packets);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!clients || !durations || !firsts || !packets || poller < 0)
        die("no memory: %s", strerror(errno));
    for (int i = 0; i < all; i++)
        open_client(&clients[i], i);
    leave_half_open(clients + want.clients);
    dice = want.seed;
    tell(storm(clients));
    return told.completed == want.clients ? 0 : 1;
}
