package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed web
var web embed.FS

// templates are the pages.
var templates = template.Must(template.New("").Funcs(functions).ParseFS(web, "web/*.html"))

// assets are the files that pages refer to: by names that hold their digest, so that browsers may keep them for ever.
type assets struct {
	urls  map[string]string
	files map[string]asset
}

type asset struct {
	content []byte
	kind    string
	tag     string
}

// etagBytes is how much of a digest a name holds.
const etagBytes = 12

func newAssets() *assets {
	a := &assets{urls: make(map[string]string), files: make(map[string]asset)}
	for _, name := range []string{"page.css", "page.js", "icon.svg"} {
		content, err := web.ReadFile("web/" + name)
		if err != nil {
			panic(err) // it is embedded
		}
		sum := sha256.Sum256(content)
		tag := hex.EncodeToString(sum[:etagBytes])
		extension := path.Ext(name)
		hashed := strings.TrimSuffix(name, extension) + "-" + tag + extension
		kind := mime.TypeByExtension(extension)
		if extension == ".js" {
			kind = "text/javascript; charset=utf-8"
		}
		a.urls[name] = "/assets/" + hashed
		a.files[hashed] = asset{content: content, kind: kind, tag: `"` + tag + `"`}
	}
	return a
}

func (a *assets) url(name string) string { return a.urls[name] }

// serve answers without a sign-in: the files are the same for everybody, and the sign-in needs them.
func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	file, ok := a.files[r.PathValue("name")]
	if !ok {
		http.Error(w, "there is no such file", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("ETag", file.tag)
	if strings.Contains(r.Header.Get("If-None-Match"), file.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", file.kind)
	h.Set("Content-Length", strconv.Itoa(len(file.content)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(file.content) // the viewer is gone; there is nobody to tell
	}
}
