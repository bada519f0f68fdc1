// The program in the test images. It reads the image's other layer and prints its FNV-1a sum, so that running the image
// shows that every layer arrived whole.
#include <stdint.h>
#include <stdio.h>

int main(void) {
    FILE *payload = fopen("/payload", "rb");
    if (payload == NULL) {
        perror("/payload");
        return 1;
    }
    uint64_t sum = 0xcbf29ce484222325u;
    for (int byte; (byte = getc(payload)) != EOF;) {
        sum = (sum ^ (uint64_t)byte) * 0x100000001b3u;
    }
    printf("the payload sums to %016llx\n", (unsigned long long)sum);
    return 0;
}
