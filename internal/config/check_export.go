package config

import (
	"fmt"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"ingestd/internal/fhir"
)

// export reports what is wrong between the keys of an export.
func (c checker) export(x *Export) {
	switch {
	case !slices.Contains(levels, x.Level):
	case x.Level == "group" && x.GroupID == "":
		c.at("export.group_id", "is missing: level group expects the group's id")
	case x.Level != "group" && x.GroupID != "":
		c.at("export.group_id", "is for level group, and the level is %s: expected none", x.Level)
	}
	if strings.ContainsFunc(x.GroupID, func(r rune) bool { return r <= ' ' || r == '/' || r == '?' || r == '#' || r == 0x7f }) {
		c.at("export.group_id", "%s: expected the id of a Group, without a path", excerpt(x.GroupID))
	}
	c.types("export.types", x.Types)
	for i, filter := range x.TypeFilters {
		c.filter(fmt.Sprintf("export.type_filters[%d]", i), filter, x.Types)
	}
	for i, entry := range x.Elements {
		c.element(fmt.Sprintf("export.elements[%d]", i), entry, x.Types)
	}
	for i, entry := range x.IncludeAssociatedData {
		if entry != "" && !associatedData.MatchString(entry) {
			c.at(fmt.Sprintf("export.include_associated_data[%d]", i),
				"%s: expected LatestProvenanceResources, RelevantProvenanceResources, or a name of the payer's own, which begins with _", excerpt(entry))
		}
	}
	if x.OrganizeOutputBy != "" && !fhir.KnownType(x.OrganizeOutputBy) {
		c.at("export.organize_output_by", "%s: expected a resource type of FHIR R4, R4B or R5", excerpt(x.OrganizeOutputBy))
	}
	c.attachments(x)
	c.patients(x)
	if x.Since != "auto" && x.Since != "never" && !isInstant(x.Since) {
		c.at("export.since", "%s: expected auto, never, or an instant such as 2026-01-31T00:00:00Z", excerpt(x.Since))
	}
	if x.FullSince != "" && !isInstant(x.FullSince) {
		c.at("export.full_since", "%s: expected an instant such as 2020-01-01T00:00:00Z", excerpt(x.FullSince))
	}
	switch {
	case x.SinceOptional && x.Handling == "none":
		c.at("export.since_optional", "needs handling lenient, and the handling is none: expected handling: lenient beside it")
	case x.SinceOptional && x.FullSince != "":
		c.at("export.since_optional", "cannot stand beside full_since: where no _since does not mean everything, it cannot be given up")
	}
	c.headers(x.Headers)
}

// attachments checks what is fetched of content that resources refer to.
func (c checker) attachments(x *Export) {
	for i, mediaType := range x.AttachmentTypes {
		if !mediaTypes.MatchString(mediaType) {
			c.at(fmt.Sprintf("export.attachment_types[%d]", i), "%s: expected a media type, such as application/pdf or text/*", excerpt(mediaType))
		}
	}
	if len(x.AttachmentTypes) > 0 && !x.FetchesAttachments() {
		c.at("export.attachment_types", "is for attachments that are fetched, and export.attachments is none: expected inline or table there, or none here")
	}
}

// isInstant reports whether a text is an RFC 3339 instant; its zone is not optional (Bulk Data 3.0, _since).
func isInstant(text string) bool {
	_, err := time.Parse(time.RFC3339Nano, text)
	return err == nil
}

// types checks a list of resource types.
func (c checker) types(path string, types []string) {
	for i, t := range types {
		key := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case t == "": // bounds reports it
		case !fhir.KnownType(t):
			c.at(key, "%s is not a resource type of FHIR R4, R4B or R5%s", excerpt(t), didYouMean(t))
		case slices.Index(types, t) < i:
			c.at(key, "%s stands here for the second time", t)
		}
	}
}

func didYouMean(resourceType string) string {
	text := suggest(resourceType, fhir.Types())
	if !strings.HasPrefix(text, "did you mean") {
		return ""
	}
	return ": " + text
}

// refusedParameters must not stand in a _typeFilter: those that shape the result of a search instead of choosing
// resources (FHIR R4, Search, 3.1.1.5 to 3.1.1.7), and those of $export itself.
var refusedParameters = []string{
	"_sort", "_count", "_include", "_revinclude", "_summary", "_elements", "_total", "_contained", "_containedType", "_maxresults",
	"_score", "_graph", "_format", "_pretty", "_type", "_typeFilter", "_since", "_until", "_outputFormat",
}

// filter checks a _typeFilter (Bulk Data 3.0, _typeFilter).
func (c checker) filter(key, filter string, types []string) {
	resourceType, query, ok := strings.Cut(filter, "?")
	switch {
	case filter == "":
		return // bounds reports it
	case !ok, query == "", !fhir.KnownType(resourceType), strings.ContainsAny(filter, "# \t\n"):
		c.at(key, "%s: expected one type and a search, such as ExplanationOfBenefit?type=pharmacy", excerpt(filter))
		return
	case !slices.Contains(types, resourceType) && c.readable("export.types"):
		c.at(key, "%s is not among export.types: expected it there, or no filter for it", resourceType)
	}
	for parameter := range strings.SplitSeq(query, "&") {
		name, _, hasValue := strings.Cut(parameter, "=")
		decoded, err := url.QueryUnescape(name)
		bare, _, _ := strings.Cut(decoded, ":")
		switch {
		case err != nil || bare == "" || !hasValue:
			c.at(key, "%s: expected a search of name=value pairs, joined by &", excerpt(filter))
			return
		case slices.Contains(refusedParameters, bare):
			c.at(key, "%s does not choose resources and cannot stand in a _typeFilter: expected search parameters of %s", bare, resourceType)
		}
	}
}

var (
	elementName = regexp.MustCompile(`^[a-z][A-Za-z0-9]*$`)
	// associatedData are the values of includeAssociatedData (Bulk Data 3.0, Query Parameters).
	associatedData = regexp.MustCompile(`^(LatestProvenanceResources|RelevantProvenanceResources|_[A-Za-z0-9_-]+)$`)
	mediaTypes     = regexp.MustCompile(`^[A-Za-z0-9!#$&^_.+-]+/(\*|[A-Za-z0-9!#$&^_.+-]+)$`)
)

// element checks an entry of _elements: the name of an outermost element, with or without its type (Bulk Data 3.0, _elements).
func (c checker) element(key, entry string, types []string) {
	resourceType, name, typed := strings.Cut(entry, ".")
	if !typed {
		resourceType, name = "", entry
	}
	switch {
	case entry == "": // bounds reports it
	case !elementName.MatchString(name):
		c.at(key, "%s: expected one outermost element an entry, as name or Type.name, such as Patient.identifier", excerpt(entry))
	case typed && !fhir.KnownType(resourceType):
		c.at(key, "%s is not a resource type of FHIR R4, R4B or R5%s", excerpt(resourceType), didYouMean(resourceType))
	case typed && len(types) > 0 && !slices.Contains(types, resourceType) && c.readable("export.types"):
		c.at(key, "%s is not among export.types: expected it there, or no element of it", resourceType)
	}
}

var patientID = regexp.MustCompile(`^(Patient/)?[A-Za-z0-9.-]{1,64}$`)

// patients checks who is exported, and does not repeat it: ids of patients are no matter for a log.
func (c checker) patients(x *Export) {
	if len(x.Patients) == 0 {
		return
	}
	if x.Method != "post" {
		c.at("export.patients", "can only be sent with method post, and the method is %s", excerpt(x.Method))
	}
	if x.Level == "system" {
		c.at("export.patients", "cannot be used at level system: expected level patient or group")
	}
	for i, patient := range x.Patients {
		if patient != "" && !patientID.MatchString(patient) {
			c.at(fmt.Sprintf("export.patients[%d]", i), "expected Patient/id, or a mere id")
		}
	}
}

// ownHeaders are set by ingestd or by HTTP itself.
var ownHeaders = []string{
	"Authorization", "Host", "Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Te", "Trailer", "Upgrade",
	"Accept-Encoding", "Range", "If-Range", "Expect",
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// headers checks further request headers (RFC 9110, 5.1 and 5.5); their values are not repeated.
func (c checker) headers(headers map[string]string) {
	for name, value := range headers {
		key := join("export.headers", name)
		switch {
		case !headerName.MatchString(name):
			c.at("export.headers", "%s is not the name of a header", excerpt(name))
		case slices.Contains(ownHeaders, textproto.CanonicalMIMEHeaderKey(name)):
			c.at(key, "is set by ingestd itself: expected another header")
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			c.at(key, "expected a value without line breaks and control characters")
		}
	}
}
