package payersim

import (
	"math/bits"
	"strconv"
	"time"
)

// hash is a well-mixed function of the seed, a kind, an index and a purpose.
func (g *generator) hash(k, i int, purpose uint64) uint64 {
	h := mix(g.seed ^ uint64(k+1)<<56)
	h = mix(h ^ uint64(i))
	return mix(h ^ purpose)
}

// mix is the finalizer of splitmix64: a bijection on 64 bits whose output bits depend on all input bits.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// dice is a stream of random numbers.
type dice uint64

func (d *dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	return mix(uint64(*d))
}

// roll is a number from 0 to n-1.
func (d *dice) roll(n int) int {
	hi, _ := bits.Mul64(d.next(), uint64(n))
	return int(hi)
}

// between is a number from low to high, both included.
func (d *dice) between(low, high int) int { return low + d.roll(high-low+1) }

func pick[T any](d *dice, from []T) T { return from[d.roll(len(from))] }

// render appends the resource as one line without its newline. Everything but meta follows from seed, index and
// version.
func (e era) render(b []byte, k, i int, l life) []byte {
	d := dice(e.hash(k, i, 2))
	switch k {
	case kindPatient:
		return e.renderPatient(b, i, l, &d)
	case kindCoverage:
		return e.renderCoverage(b, i, l, &d)
	case kindEOB:
		return e.renderEOB(b, i, l, &d)
	case kindPractitioner:
		return e.renderPractitioner(b, i, l, &d)
	default:
		return e.renderOrganization(b, i, l, &d)
	}
}

// head appends the members that every resource begins with.
func (e era) head(b []byte, k, i int, l life, profile string) []byte {
	b = append(b, `{"resourceType":"`...)
	b = append(b, kindNames[k]...)
	b = append(b, `","id":"`...)
	b = e.appendID(b, k, i)
	b = append(b, `","meta":{"versionId":"`...)
	b = strconv.AppendInt(b, int64(l.version), 10)
	b = append(b, `","lastUpdated":"`...)
	b = appendInstant(b, e.instant(k, i, l.changed))
	b = append(b, `","profile":["`...)
	b = append(b, profile...)
	return append(b, `"]}`...)
}

const hexDigits = "0123456789abcdef"

// appendID appends the logical id: a UUID that belongs to the resource for ever.
func (g *generator) appendID(b []byte, k, i int) []byte {
	high := g.hash(k, i, 3)
	low := mix(high ^ uint64(i)<<1)
	high = high&^0xf000 | 0x4000
	low = low&^(3<<62) | 2<<62
	for n := range 16 {
		if n == 8 || n == 12 {
			b = append(b, '-')
		}
		b = append(b, hexDigits[high>>(60-4*n)&15])
	}
	b = append(b, '-')
	for n := range 16 {
		if n == 4 {
			b = append(b, '-')
		}
		b = append(b, hexDigits[low>>(60-4*n)&15])
	}
	return b
}

// reference appends {"reference":"Type/id"} of another resource of the generator.
func (g *generator) reference(b []byte, k, i int) []byte {
	b = append(b, `{"reference":"`...)
	b = append(b, kindNames[k]...)
	b = append(b, '/')
	b = g.appendID(b, k, i)
	return append(b, `"}`...)
}

// coding appends {"coding":[{"system":…,"code":…,"display":…}]}.
func coding(b []byte, system string, c code) []byte {
	b = append(b, `{"coding":[{"system":"`...)
	b = append(b, system...)
	b = append(b, `","code":"`...)
	b = append(b, c.code...)
	b = append(b, `","display":"`...)
	b = append(b, c.display...)
	return append(b, `"}]}`...)
}

// instantLayout writes FHIR instants to the millisecond in UTC.
const instantLayout = "2006-01-02T15:04:05.000Z"

func appendInstant(b []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(b, instantLayout)
}

// days holds the dates of claims and coverage periods as text, from 2020-01-01 on.
var days = func() []string {
	out := make([]string, 6*365)
	day := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range out {
		out[i] = day.AddDate(0, 0, i).Format(time.DateOnly)
	}
	return out
}()

// appendMoney appends {"value":12.34,"currency":"USD"}.
func appendMoney(b []byte, cents int) []byte {
	b = append(b, `{"value":`...)
	b = appendCents(b, cents)
	return append(b, `,"currency":"USD"}`...)
}

// appendCents keeps both decimals: FHIR decimals carry their precision (1.00 is not 1).
func appendCents(b []byte, cents int) []byte {
	b = strconv.AppendInt(b, int64(cents/100), 10)
	return append(b, '.', '0'+byte(cents/10%10), '0'+byte(cents%10))
}

// appendDigits appends n with leading zeros to the given width.
func appendDigits(b []byte, n uint64, width int) []byte {
	start := len(b)
	for range width {
		b = append(b, '0')
	}
	for at := len(b) - 1; at >= start && n > 0; at-- {
		b[at] = '0' + byte(n%10)
		n /= 10
	}
	return b
}
