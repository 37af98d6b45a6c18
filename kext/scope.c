#include "scope.h"

#include "context.h"

// A loopback packet has no link: the answer of a redirection has the link of no packet that it answers.
static VOID ScopeReadPlace(const CLASSIFY *classify, SCOPE_PLACE *place)
{
    const LAYER_FIELDS *fields = &classify->Layer->Fields;

    place->InterfaceIndex = 0;
    place->InterfaceLuid = ClassifyUint64(classify->Values, fields->LocalInterface);
    place->Compartment = ClassifyCompartment(classify->Metadata);
    if (place->Compartment == UNSPECIFIED_COMPARTMENT_ID)
    {
        place->Compartment = (COMPARTMENT_ID)ClassifyUint32(classify->Values, fields->Compartment);
    }
}

_Use_decl_annotations_
VOID ScopeSet(const CLASSIFY *classify, CONNECTION_KEY *key)
{
    BOOLEAN hasLink = ScopeHasLink(key) && !ClassifyIsLoopback(classify);
    SCOPE_PLACE place;

    if (!hasLink && ClassifyCompartment(classify->Metadata) <= DEFAULT_COMPARTMENT_ID)
    {
        key->Scope = SCOPE_DEFAULT;
        return;
    }
    ScopeReadPlace(classify, &place);
    if (hasLink)
    {
        place.InterfaceIndex = ClassifyUint32(classify->Values, classify->Layer->Fields.InterfaceIndex);
    }
    key->Scope = ScopeTableFind(&classify->Context->Scopes, &place);
}

_Use_decl_annotations_
VOID ScopeSeek(const CLASSIFY *classify, UINT64 handle, CONNECTION_KEY *key)
{
    SCOPE_PLACE place;

    ScopeReadPlace(classify, &place);
    if (ScopeHasLink(key) || place.Compartment != DEFAULT_COMPARTMENT_ID)
    {
        key->Scope = ScopeTableSeek(&classify->Context->Scopes, key, &place, handle);
    }
}

_Use_decl_annotations_
VOID ScopeSpareOthers(const CLASSIFY *classify, CONNECTION_RELEASE *release)
{
    SCOPE_PLACE place;

    ScopeReadPlace(classify, &place);
    ScopeTableSpare(&classify->Context->Scopes, &place, AddressIsLinkLocal(release->IpVersion, release->LocalAddress),
                    release->SparedScopes);
}
