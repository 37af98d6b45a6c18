#include "siphash.h"

#include "kext_test.h"

#include <set>

namespace
{

using SipHashTest = kext_test::KextTest;

uint64_t Rotate(uint64_t value, unsigned bits)
{
    return (value << bits) | (value >> (64 - bits));
}

// SipHash-c-d of the paper, for any c and d.
uint64_t Reference(unsigned c, unsigned d, uint64_t k0, uint64_t k1, const std::vector<uint8_t> &data)
{
    uint64_t v0 = k0 ^ 0x736f6d6570736575u, v1 = k1 ^ 0x646f72616e646f6du;
    uint64_t v2 = k0 ^ 0x6c7967656e657261u, v3 = k1 ^ 0x7465646279746573u;
    auto rounds = [&](unsigned count)
    {
        while (count-- > 0)
        {
            v0 += v1, v2 += v3;
            v1 = Rotate(v1, 13), v3 = Rotate(v3, 16);
            v1 ^= v0, v3 ^= v2;
            v0 = Rotate(v0, 32);
            v2 += v1, v0 += v3;
            v1 = Rotate(v1, 17), v3 = Rotate(v3, 21);
            v1 ^= v2, v3 ^= v0;
            v2 = Rotate(v2, 32);
        }
    };
    std::vector<uint8_t> padded = data;

    padded.resize((data.size() / 8 + 1) * 8);
    padded.back() = static_cast<uint8_t>(data.size());
    for (size_t i = 0; i < padded.size(); i += 8)
    {
        uint64_t word;

        memcpy(&word, &padded[i], 8);
        v3 ^= word;
        rounds(c);
        v0 ^= word;
    }
    v2 ^= 0xFF;
    rounds(d);
    return v0 ^ v1 ^ v2 ^ v3;
}

std::vector<uint8_t> Counting(size_t length)
{
    std::vector<uint8_t> data(length);

    for (size_t i = 0; i < length; i++)
    {
        data[i] = static_cast<uint8_t>(i);
    }
    return data;
}

TEST_F(SipHashTest, TheReferenceMatchesThePapersVector)
{
    // "SipHash: a fast short-input PRF", appendix A: SipHash-2-4 of 00..0e with the key 00..0f.
    EXPECT_EQ(Reference(2, 4, 0x0706050403020100u, 0x0f0e0d0c0b0a0908u, Counting(15)), 0xa129ca6149be45e5u);
}

TEST_F(SipHashTest, AgreesWithTheReferenceForEveryLength)
{
    const SIPHASH_KEY key = {{0x0706050403020100u, 0x0f0e0d0c0b0a0908u}};

    for (size_t length = 0; length < 130; length++)
    {
        const std::vector<uint8_t> data = Counting(length);

        EXPECT_EQ(SipHash13(&key, data.data(), length), Reference(1, 3, key.Words[0], key.Words[1], data)) << length;
    }
}

TEST_F(SipHashTest, AgreesWithAnotherImplementation)
{
    // CPython 3.11 gives these values for hash(bytes) with a key of zeros.
    const SIPHASH_KEY key = {{0, 0}};

    EXPECT_EQ(SipHash13(&key, "a", 1), 0x407448d2b89b1813u);
    EXPECT_EQ(SipHash13(&key, "abc", 3), 0xc03bc3a0042630f2u);
    EXPECT_EQ(SipHash13(&key, "0123456789", 10), 0x52b62a4184e1c734u);
    EXPECT_EQ(SipHash13(&key, std::string(40, 'x').data(), 40), 0x1ff91b165bb0419bu);
}

TEST_F(SipHashTest, NeedsNoAlignment)
{
    const SIPHASH_KEY key = {{1, 2}};
    const std::vector<uint8_t> data(48, 0x5A);

    for (size_t offset = 1; offset < 8; offset++)
    {
        EXPECT_EQ(SipHash13(&key, &data[offset], 40), SipHash13(&key, &data[0], 40));
    }
}

TEST_F(SipHashTest, WordsAndTheirBytesHaveTheSameHash)
{
    const SIPHASH_KEY key = {{1, 2}};
    const std::vector<uint8_t> data = Counting(40);
    UINT64 words[5];

    memcpy(words, data.data(), sizeof(words));
    for (UINT32 count = 0; count <= 5; count++)
    {
        EXPECT_EQ(SipHash13OfWords(&key, words, count), SipHash13(&key, data.data(), 8 * count)) << count;
    }
}

TEST_F(SipHashTest, FreshKeysDiffer)
{
    std::set<std::pair<UINT64, UINT64>> seen;
    SIPHASH_KEY keys[64];

    for (SIPHASH_KEY &key : keys)
    {
        SipHashKeyInitialize(&key);
        EXPECT_NE(key.Words[0], key.Words[1]);
        seen.emplace(key.Words[0], key.Words[1]);
    }
    EXPECT_EQ(seen.size(), 64u);
}

} // namespace
