/* A stand-in for an OpenAI-compatible server: one thread, epoll, loopback only, Linux only.
 *
 *   mock_server LATENCY_MS ERROR_SHARE THROTTLE_SHARE HANG_SHARE RETRY_AFTER_S
 *
 * Prints its port and serves until it is killed. Every POST is a chat completion and is answered
 * after LATENCY_MS: with words of some 700 bytes that begin with a hash of the request, or with
 * status 500, or with 429 and Retry-After; a share of them is never answered. GET /stats tells what
 * was asked; any other GET is the list of models. Times are CLOCK_MONOTONIC, as time.monotonic().
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FDS = 65536, READ_SIZE = 1 << 18, EVENTS = 512 };
enum outcome { GOOD, ERROR_500, THROTTLED, HUNG };

struct connection {
    char *in;
    size_t length, capacity;
    uint64_t hash;
    uint32_t generation; /* a late answer must not reach a later connection of the same number */
    enum outcome outcome;
    int open, busy, closes; /* some clients read an answer until the connection ends */
};

struct due { /* all wait equally long, so that a queue holds them in their order */
    double at;
    uint32_t generation;
    int fd;
};

static struct connection connections[MOST_FDS];
static struct due *queue;
static size_t queue_first, queue_count, queue_capacity;
static double latency, error_share, throttle_share, hang_share, retry_after;

static uint64_t *answered; /* hashes of all requests that were answered well */
static size_t answered_count, answered_capacity;
static long requests, good, errors, throttled, hung, paid_twice, in_flight, most_in_flight, opened;
static double first_request, last_answer;

/* Other words for each request, as a model has them: the same ones again would be a fault. */
static const char *COMMON[] = {"the", "of", "and", "a", "to", "in", "is", "that", "it", "for",
                               "on", "with", "as", "at", "by", "from", "or", "which", "but",
                               "not", "this", "are", "when", "so", "if", "then", "one", "two",
                               "into", "before", "until", "after"};
static const char *PARTS[] = {"ba", "cor", "den", "fil", "gan", "hol", "jun", "kel", "lam", "mar",
                              "nor", "pel", "quin", "ros", "sal", "tor", "ur", "ven", "wil",
                              "yar", "bel", "cris", "dor", "fen", "gor", "hay", "lin", "mon",
                              "ner", "pra", "ster", "tul"};
static char words[701];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static double random_share(void) { /* xorshift: the same faults in every run */
    static uint64_t state = 88172645463325252ULL;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (state >> 11) * (1.0 / 9007199254740992.0);
}

static void choose_words(uint64_t state) {
    size_t size = 0;
    while (size < sizeof words - 16) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        unsigned pick = state >> 40;
        size += pick % 5 < 2
                    ? sprintf(words + size, "%s ", COMMON[pick / 5 % 32])
                    : sprintf(words + size, "%s%s ", PARTS[pick / 5 % 32], PARTS[pick / 160 % 32]);
    }
    words[size - 1] = '.';
}

static uint64_t hash_of(const char *bytes, size_t size) {
    uint64_t hash = 0x9E3779B97F4A7C15ULL ^ size, part;
    for (; size; bytes += 8, size -= size < 8 ? size : 8) {
        part = 0;
        memcpy(&part, bytes, size < 8 ? size : 8);
        hash = (hash ^ part) * 0xff51afd7ed558ccdULL;
        hash ^= hash >> 32;
    }
    return hash ? hash : 1;
}

static int is_new(uint64_t hash) { /* and from now on it is not: open addressing */
    if (answered_count * 2 >= answered_capacity) {
        uint64_t *before = answered;
        size_t size = answered_capacity;
        answered_capacity = size ? size * 2 : 1 << 16;
        answered = calloc(answered_capacity, sizeof *answered);
        answered_count = 0;
        for (size_t i = 0; i < size; i++)
            if (before[i]) is_new(before[i]);
        free(before);
    }
    size_t place = hash & (answered_capacity - 1);
    for (; answered[place]; place = (place + 1) & (answered_capacity - 1))
        if (answered[place] == hash) return 0;
    answered[place] = hash;
    answered_count++;
    return 1;
}

static void close_connection(int fd) {
    struct connection *it = &connections[fd];
    if (it->busy) in_flight--;
    it->open = it->busy = it->closes = 0;
    it->generation++;
    it->length = 0;
    close(fd);
}

static void send_answer(int fd, const char *status, const char *header, const char *body) {
    char all[4096];
    int size = snprintf(all, sizeof all,
                        "HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: "
                        "%zu\r\n\r\n%s",
                        status, header, strlen(body), body);
    if (send(fd, all, size, MSG_NOSIGNAL) != size || connections[fd].closes) /* it fits a buffer */
        close_connection(fd);
}

static void send_stats(int fd) {
    char body[1024];
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double processor = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
                       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    snprintf(body, sizeof body,
             "{\"requests\":%ld,\"good\":%ld,\"errors\":%ld,\"throttled\":%ld,\"hung\":%ld,"
             "\"paid_twice\":%ld,\"most_in_flight\":%ld,\"connections\":%ld,"
             "\"first_request\":%.4f,\"last_answer\":%.4f,\"processor\":%.3f}",
             requests, good, errors, throttled, hung, paid_twice, most_in_flight, opened,
             first_request, last_answer, processor);
    send_answer(fd, "200 OK", "", body);
}

static void answer(int fd) {
    struct connection *it = &connections[fd];
    char body[2048], header[64];
    it->busy = 0;
    in_flight--;
    last_answer = now();
    if (it->outcome == ERROR_500) {
        errors++;
        send_answer(fd, "500 Internal Server Error", "", "{\"error\":{\"message\":\"mock\"}}");
    } else if (it->outcome == THROTTLED) {
        throttled++;
        snprintf(header, sizeof header, "Retry-After: %g\r\n", retry_after);
        send_answer(fd, "429 Too Many Requests", header, "{\"error\":{\"message\":\"mock\"}}");
    } else {
        good++;
        choose_words(it->hash | 1);
        paid_twice += !is_new(it->hash);
        snprintf(body, sizeof body,
                 "{\"id\":\"chatcmpl-%ld\",\"object\":\"chat.completion\",\"created\":1,"
                 "\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
                 "\"assistant\",\"content\":\"(%016llx) %s\"},\"logprobs\":null,"
                 "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":900,"
                 "\"completion_tokens\":150,\"total_tokens\":1050}}",
                 good, (unsigned long long)it->hash, words);
        send_answer(fd, "200 OK", "", body);
    }
}

static void enqueue(int fd) {
    if (queue_count == queue_capacity) {
        size_t before = queue_capacity;
        queue_capacity = before ? before * 2 : 1024;
        queue = realloc(queue, queue_capacity * sizeof *queue);
        /* what was wrapped around goes behind the rest */
        memcpy(queue + before, queue, queue_first * sizeof *queue);
    }
    queue[(queue_first + queue_count++) % queue_capacity] =
        (struct due){now() + latency, connections[fd].generation, fd};
}

static void take_request(int fd, const char *body, size_t size) {
    struct connection *it = &connections[fd];
    double share = random_share();
    requests++;
    if (!first_request) first_request = now();
    if (++in_flight > most_in_flight) most_in_flight = in_flight;
    it->busy = 1;
    it->hash = hash_of(body, size);
    it->outcome = share < error_share                                  ? ERROR_500
                  : share < error_share + throttle_share               ? THROTTLED
                  : share < error_share + throttle_share + hang_share ? HUNG
                                                                       : GOOD;
    if (it->outcome == HUNG)
        hung++;
    else if (latency > 0)
        enqueue(fd);
    else
        answer(fd);
}

static void parse(int fd) { /* one request at a time, as clients send them without pipelining */
    struct connection *it = &connections[fd];
    char *end = it->length ? memmem(it->in, it->length, "\r\n\r\n", 4) : NULL;
    if (!end || it->busy) return;
    size_t head = end - it->in + 4, size = 0;
    for (char *line = it->in; (line = memchr(line, '\n', end - line)); line++) {
        if (!strncasecmp(line + 1, "content-length:", 15)) size = strtoul(line + 16, NULL, 10);
        if (!strncasecmp(line + 1, "connection: close", 17)) it->closes = 1;
    }
    if (it->length < head + size) return;
    it->length = 0;
    if (it->in[0] == 'P')
        take_request(fd, it->in + head, size);
    else if (!strncmp(it->in, "GET /stats", 10))
        send_stats(fd);
    else
        send_answer(fd, "200 OK", "",
                    "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\","
                    "\"created\":1,\"owned_by\":\"mock\"}]}");
}

static void receive(int fd) {
    static char buffer[READ_SIZE];
    struct connection *it = &connections[fd];
    ssize_t size = recv(fd, buffer, sizeof buffer, 0);
    if (size <= 0) {
        close_connection(fd);
        return;
    }
    if (it->capacity < it->length + size) {
        it->capacity = (it->length + size) * 2;
        it->in = realloc(it->in, it->capacity);
    }
    memcpy(it->in + it->length, buffer, size);
    it->length += size;
    parse(fd);
}

static void accept_all(int listener, int poll) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[fd].open = 1;
        opened++;
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLIN, {.fd = fd}});
    }
}

static void answer_what_is_due(void) {
    double time = now();
    while (queue_count && queue[queue_first].at <= time) {
        struct due due = queue[queue_first];
        queue_first = (queue_first + 1) % queue_capacity;
        queue_count--;
        if (connections[due.fd].busy && connections[due.fd].generation == due.generation)
            answer(due.fd);
    }
}

int main(int count, char **arguments) {
    if (count != 6) return 2;
    latency = atof(arguments[1]) / 1000;
    error_share = atof(arguments[2]);
    throttle_share = atof(arguments[3]);
    hang_share = atof(arguments[4]);
    retry_after = atof(arguments[5]);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){EPOLLIN, {.fd = listener}});
    for (;;) {
        static struct epoll_event events[EVENTS];
        struct timespec wait = {0}, *until = NULL;
        if (queue_count) {
            double left = queue[queue_first].at - now();
            if (left > 0) wait = (struct timespec){left, (left - (long)left) * 1e9};
            until = &wait;
        }
        int ready = epoll_pwait2(poll, events, EVENTS, until, NULL);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(listener, poll);
            else if (connections[fd].open)
                receive(fd);
        }
        answer_what_is_due();
    }
}
