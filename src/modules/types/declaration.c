/*
 * What is declared once. The typed client has the SDK's own RecordService, so that it goes wherever
 * the SDK's client goes; the strict one is for those who want slips in names of collections and in
 * what is sent to be errors as well, which the SDK's own signatures let through.
 */
#include "types_private.h"

void types_write_head(struct bk_buffer *out) {
    bk_buffer_append_literal(
        out,
        "/**\n"
        " * The collections, as types for the `pocketbase` SDK. Made by `bakend types`; make it "
        "anew\n"
        " * instead of changing it.\n"
        " *\n"
        " *   import PocketBase from \"pocketbase\";\n"
        " *   import type { TypedPocketBase } from \"./bakend\";\n"
        " *\n"
        " *   const pb = new PocketBase(\"http://127.0.0.1:8090\") as TypedPocketBase;\n"
        " *   const list = await pb.collection(\"posts\").getList(); // ListResult<PostsRecord>\n"
        " */\n"
        "import type PocketBase from \"pocketbase\";\n"
        "import type { RecordOptions, RecordService } from \"pocketbase\";\n"
        "\n"
        "/** The id of a record. */\n"
        "export type RecordId = string;\n"
        "/** \"2026-06-08 12:00:00.000Z\"; \"\" where there is none. */\n"
        "export type DateText = string;\n"
        "/** The name under which a file was stored; \"\" where there is none. */\n"
        "export type FileName = string;\n"
        "/** A new file, or the name of one that is kept. */\n"
        "export type FileInput = File | Blob | FileName;\n"
        "export interface GeoPoint {\n"
        "  lon: number;\n"
        "  lat: number;\n"
        "}\n"
        "\n"
        "/**\n"
        " * A record that was asked for with `expand`:\n"
        " *   getOne<Expanded<PostsRecord, \"author\">>(id, { expand: \"author\" })\n"
        " */\n"
        "export type Expanded<\n"
        "  R extends { expand?: object },\n"
        "  K extends keyof NonNullable<R[\"expand\"]>,\n"
        "> = R & { expand: Required<Pick<NonNullable<R[\"expand\"]>, K>> };\n");
}

static void write_map(struct bk_buffer *out, const struct types_model *model, const char *name,
                      const char *suffix, bool has_views) {
    bk_buffer_format(out, "\nexport interface %s {\n", name);
    for (size_t i = 0; i < model->count; i++) {
        const struct types_collection *collection = &model->collections[i];
        if (collection->is_view && !has_views)
            continue;
        bk_buffer_append_literal(out, "  ");
        types_write_key(out, "", collection->name, "");
        bk_buffer_format(out, ": %.*s%s;\n", BK_SLICE_PRINT(collection->type), suffix);
    }
    bk_buffer_append_literal(out, "}\n");
}

void types_write_client(struct bk_buffer *out, const struct types_model *model) {
    bk_buffer_append_literal(out, "\n// --- all of them\n");
    write_map(out, model, "CollectionRecords", "Record", true);
    write_map(out, model, "CollectionCreates", "Create", false);
    write_map(out, model, "CollectionUpdates", "Update", false);
    bk_buffer_append_literal(
        out, "\nexport type CollectionName = keyof CollectionRecords;\n"
             "\n"
             "/** The SDK's client, which knows the records of each collection. */\n"
             "export type TypedPocketBase = {\n"
             "  collection<K extends CollectionName>(idOrName: K): "
             "RecordService<CollectionRecords[K]>;\n"
             "} & PocketBase;\n"
             "\n"
             "/** RecordService, which takes what the collection has and nothing else. */\n"
             "export type StrictRecordService<K extends CollectionName> = Omit<\n"
             "  RecordService<CollectionRecords[K]>,\n"
             "  \"create\" | \"update\"\n"
             "> &\n"
             "  (K extends keyof CollectionCreates & keyof CollectionUpdates\n"
             "    ? {\n"
             "        create<T = CollectionRecords[K]>(\n"
             "          body: CollectionCreates[K] | FormData,\n"
             "          options?: RecordOptions,\n"
             "        ): Promise<T>;\n"
             "        update<T = CollectionRecords[K]>(\n"
             "          id: RecordId,\n"
             "          body: CollectionUpdates[K] | FormData,\n"
             "          options?: RecordOptions,\n"
             "        ): Promise<T>;\n"
             "      }\n"
             "    : unknown);\n"
             "\n"
             "/** The SDK's client, which refuses names that no collection or field has. */\n"
             "export type StrictPocketBase = Omit<PocketBase, \"collection\"> & {\n"
             "  collection<K extends CollectionName>(idOrName: K): StrictRecordService<K>;\n"
             "};\n");
}
