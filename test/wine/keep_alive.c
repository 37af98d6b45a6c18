// Wine ends its drivers soon after its last program ends, so this program runs until it is killed.

#include <windows.h>

int main(void)
{
    Sleep(INFINITE);
    return 0;
}
