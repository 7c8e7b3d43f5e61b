/* Clients that ask for files over HTTP/1.1 at once, on loopback alone: what they got, and how long each answer took.

   httpstorm PORT CLIENTS SECONDS EACH KEEP LIST

   LIST has lines of "ADDRESS PATH WORD": ask for PATH from ADDRESS (in 127/8); the answer must hold WORD ("-": none) in
   its first 256 KiB. Each client takes a line, asks for it KEEP times on one connection, and goes on with the next line
   that nobody has. EACH is how often a client asks at most (0: until the SECONDS are over). What is not looked at is
   thrown away in the kernel. The result is one line of JSON; times are in seconds. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HELD (256 * 1024)
#define MOST_LINES 200000
#define SILENCE 60.0

struct line { char *address, *path, *word; };
struct client {
    int fd, line, asked_here, asked, state; /* state: 0 idle, 1 connecting, 2 waiting for an answer, 3 over */
    double began;
    long long left;                         /* of the body; -1: the head is not here yet */
    size_t held, head;
    char *text;
};

static struct line *lines;
static int lines_count, next_line, each, keep, epoll_fd, running;
static int port;
static double deadline, *times, last_answer;
static size_t times_count, times_room;
static long long answers, failed, wrong, bytes;
static char problem[200];

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "httpstorm: %s\n", what);
    exit(2);
}

static void note(const char *what, const char *more)
{
    if (!problem[0]) {
        snprintf(problem, sizeof problem, "%s %.80s", what, more);
        for (char *at = problem; *at; at++)
            if (*at == '"' || *at == '\\' || (unsigned char)*at < 32) *at = ' ';
    }
}

static void watch(struct client *one, unsigned events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = one};
    epoll_ctl(epoll_fd, operation, one->fd, &event);
}

static void hang_up(struct client *one)
{
    if (one->fd >= 0) close(one->fd);
    one->fd = -1;
    one->asked_here = 0;
}

static void over(struct client *one)
{
    hang_up(one);
    one->state = 3;
    running--;
}

static void ask(struct client *one)
{
    char request[2048];
    struct line *what = &lines[one->line];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: storm\r\n\r\n",
                          what->path, port);
    one->held = one->head = 0;
    one->left = -1;
    one->state = 2;
    one->asked++;
    one->asked_here++;
    if (send(one->fd, request, (size_t)length, MSG_NOSIGNAL) != length) note("cannot ask:", strerror(errno));
}

static void dial(struct client *one)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    one->line = next_line++ % lines_count;
    inet_pton(AF_INET, lines[one->line].address, &from.sin_addr);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (one->fd < 0) die("no socket: raise the limit of open files");
    setsockopt(one->fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &on, sizeof on);
    if (bind(one->fd, (struct sockaddr *)&from, sizeof from)) die("cannot use that source address");
    connect(one->fd, (struct sockaddr *)&to, sizeof to);
    one->state = 1;
    watch(one, EPOLLOUT, EPOLL_CTL_ADD);
}

/* The next request of this client: its time begins here, so a connection that must be made counts. */
static void go_on(struct client *one)
{
    if ((each && one->asked >= each) || (!each && seconds() >= deadline)) {
        over(one);
        return;
    }
    one->began = seconds();
    if (one->fd >= 0 && one->asked_here < keep) {
        ask(one);
    } else {
        hang_up(one);
        dial(one);
    }
}

static void fail(struct client *one, const char *why, const char *more)
{
    failed++;
    note(why, more);
    if (one->state == 1) one->asked++;
    hang_up(one);
    go_on(one);
}

static void answered(struct client *one)
{
    const char *word = lines[one->line].word;
    one->text[one->held < HELD ? one->held : HELD] = 0;
    if (strcmp(word, "-") && !strstr(one->text + one->head, word)) {
        wrong++;
        note("an answer without its word:", word);
    }
    if (times_count == times_room) {
        times_room = times_room ? times_room * 2 : 65536;
        times = realloc(times, times_room * sizeof *times);
        if (!times) die("no memory");
    }
    last_answer = seconds();
    times[times_count++] = last_answer - one->began;
    answers++;
    go_on(one);
}

/* 0: not all of the head is here; -1: it is no good answer. */
static int head(struct client *one)
{
    one->text[one->held] = 0;
    char *end = strstr(one->text, "\r\n\r\n"), *found;
    if (!end) return one->held < HELD ? 0 : -1;
    one->head = (size_t)(end - one->text) + 4;
    if (strncmp(one->text, "HTTP/1.1 200", 12)) return -1;
    found = strcasestr(one->text, "\r\ncontent-length:");
    if (!found || found > end) return -1;
    one->left = atoll(found + 17) - (long long)(one->held - one->head);
    bytes += (long long)(one->held - one->head);
    return 1;
}

static void hear(struct client *one)
{
    for (;;) {
        ssize_t got;
        if (one->held < HELD && (one->left < 0 || strcmp(lines[one->line].word, "-")))
            got = recv(one->fd, one->text + one->held, HELD - one->held, 0);
        else
            got = recv(one->fd, NULL, 64 * 1024 * 1024, MSG_TRUNC);
        if (got < 0) {
            if (errno != EAGAIN) fail(one, "the connection broke:", strerror(errno));
            return;
        }
        if (got == 0) {
            fail(one, "closed in the middle of", lines[one->line].path);
            return;
        }
        if (one->left < 0) {
            one->held += (size_t)got;
            int here = head(one);
            if (here < 0) {
                fail(one, "answered with", one->text);
                return;
            }
            if (!here) continue;
        } else {
            if (one->held < HELD && strcmp(lines[one->line].word, "-")) one->held += (size_t)got;
            one->left -= got;
            bytes += got;
        }
        if (one->left < 0) {
            fail(one, "more came than was announced:", lines[one->line].path);
            return;
        }
        if (one->left == 0) {
            answered(one);
            return;
        }
    }
}

static void step(struct client *one)
{
    if (one->state == 1) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            fail(one, "cannot connect:", strerror(error));
            return;
        }
        watch(one, EPOLLIN, EPOLL_CTL_MOD);
        ask(one);
    } else if (one->state == 2) {
        hear(one);
    }
}

static void read_lines(const char *path)
{
    FILE *file = fopen(path, "r");
    char address[64], where[1024], word[256];
    if (!file) die("cannot read the list");
    lines = calloc(MOST_LINES, sizeof *lines);
    while (lines && lines_count < MOST_LINES && fscanf(file, "%63s %1023s %255s", address, where, word) == 3) {
        if (strncmp(address, "127.", 4)) die("loopback addresses alone");
        lines[lines_count++] = (struct line){strdup(address), strdup(where), strdup(word)};
    }
    fclose(file);
    if (!lines_count) die("the list is empty");
}

static int by_size(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static double share(double part)
{
    if (!times_count) return 0;
    size_t at = (size_t)(part * (double)times_count);
    return times[at < times_count ? at : times_count - 1];
}

int main(int count, char **words)
{
    if (count != 7) die("usage: httpstorm PORT CLIENTS SECONDS EACH KEEP LIST");
    int clients = atoi(words[2]);
    port = atoi(words[1]);
    each = atoi(words[4]);
    keep = atoi(words[5]);
    read_lines(words[6]);
    if (port < 1 || port > 65535 || clients < 1 || clients > 20000 || keep < 1) die("a number is out of its range");
    epoll_fd = epoll_create1(0);
    struct client *all = calloc((size_t)clients, sizeof *all);
    if (!all) die("no memory");
    double began = last_answer = seconds(), looked = began;
    deadline = began + atof(words[3]);
    running = clients;
    for (int i = 0; i < clients; i++) {
        all[i].fd = -1;
        all[i].text = malloc(HELD + 1);
        if (!all[i].text) die("no memory");
        go_on(&all[i]);
    }
    while (running) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll_fd, events, 256, 200);
        for (int i = 0; i < ready; i++) step(events[i].data.ptr);
        if (seconds() - looked > 1.0) {
            looked = seconds();
            for (int i = 0; i < clients; i++)
                if (all[i].state < 3 && looked - all[i].began > (each ? atof(words[3]) : SILENCE))
                    fail(&all[i], "no answer in time:", lines[all[i].line].path);
        }
    }
    qsort(times, times_count, sizeof *times, by_size);
    printf("{\"answers\": %lld, \"failed\": %lld, \"wrong\": %lld, \"bytes\": %lld, \"wall\": %.4f, \"p50\": %.6f, "
           "\"p99\": %.6f, \"max\": %.6f, \"problem\": \"%s\"}\n",
           answers, failed, wrong, bytes, last_answer - began, share(0.5), share(0.99), share(1.0), problem);
    return 0;
}
